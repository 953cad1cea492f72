/** From the outputs of an exported file to results in the pixels of the picture, as mbdet computes them in Python. */
package mbdet

import kotlin.math.max
import kotlin.math.min

/** `decoding` in the description of a file. */
class Decoding(
    val scoreThreshold: Float,
    val iouThreshold: Float,
    val maxCandidates: Int,
    val maxPerClass: Int,
    val maxDetections: Int,
)

/** Left, top, right and bottom, in pixels. */
data class Box(val x1: Float, val y1: Float, val x2: Float, val y2: Float)

/** An object; `label` is an index into `class_names`. */
class Detection(val box: Box, val score: Float, val label: Int)

/** A class and how probable it is. */
class Named(val label: Int, val score: Float)

/**
 * Non-maximum suppression: choose the best boxes of each class, best first.
 *
 * @param boxes `anchor_boxes`: four numbers for each anchor, pixels of the input.
 * @param scores `class_scores`: for each anchor one number for each class.
 * @param classes How many classes there are.
 * @param input The size of the input.
 * @param picture The size of the picture that was stretched to it; the boxes returned are in its pixels.
 */
fun detections(
    boxes: FloatArray,
    scores: FloatArray,
    classes: Int,
    decoding: Decoding,
    input: Size,
    picture: Size,
): List<Detection> {
    val pairs = scores.indices.filter { scores[it] > decoding.scoreThreshold }
        .sortedByDescending { scores[it] } // equal scores stay in their order
        .take(decoding.maxCandidates)
    val kept = ArrayList<Detection>()
    val ofClass = Array(classes) { ArrayList<Box>() }
    for (pair in pairs) {
        if (kept.size == decoding.maxDetections) break
        val at = 4 * (pair / classes)
        val box = Box(boxes[at], boxes[at + 1], boxes[at + 2], boxes[at + 3])
        val better = ofClass[pair % classes]
        val isEmpty = !(box.x2 > box.x1 && box.y2 > box.y1)
        if (isEmpty || better.size == decoding.maxPerClass) continue
        if (better.any { overlaps(it, box, decoding.iouThreshold) }) continue
        better.add(box)
        kept.add(Detection(toPicture(box, input, picture), scores[pair], pair % classes))
    }
    return kept
}

/** Whether the shared area is more than a part of that which both cover together. */
private fun overlaps(one: Box, other: Box, threshold: Float): Boolean {
    val width = max(min(one.x2, other.x2) - max(one.x1, other.x1), 0f)
    val height = max(min(one.y2, other.y2) - max(one.y1, other.y1), 0f)
    val shared = width * height
    return shared > threshold * (area(one) + area(other) - shared)
}

private fun area(box: Box): Float = (box.x2 - box.x1) * (box.y2 - box.y1)

private fun toPicture(box: Box, input: Size, picture: Size): Box {
    val across = picture.width.toDouble() / input.width
    val down = picture.height.toDouble() / input.height
    fun moved(value: Float, scale: Double) = (value * scale).toFloat()
    return Box(moved(box.x1, across), moved(box.y1, down), moved(box.x2, across), moved(box.y2, down))
}

/**
 * Bring `classes`, a map of the input, back to the picture, each pixel from the nearest.
 *
 * @param map A label for each pixel of the input, row by row; those from 128 up are negative as Kotlin reads bytes.
 * @param input The size of the input.
 * @param picture The size of the picture.
 * @param resizing How the picture was brought to the input.
 * @return A label for each pixel of the picture, row by row, none of them negative.
 */
fun restoreMap(map: ByteArray, input: Size, picture: Size, resizing: Resizing): IntArray {
    val shown = placedSize(picture, input, resizing)
    val rows = nearest(shown.height, picture.height)
    val columns = nearest(shown.width, picture.width)
    return IntArray(picture.height * picture.width) {
        map[rows[it / picture.width] * input.width + columns[it % picture.width]].toInt() and 255
    }
}

/** Which of the old pixels of a row is nearest to each new one. Added up rather than multiplied, as Pillow does. */
private fun nearest(old: Int, new: Int): IntArray {
    val step = old.toDouble() / new
    var position = step / 2
    return IntArray(new) {
        val index = min(position.toInt(), old - 1)
        position += step
        index
    }
}

/** The `count` likeliest classes of a picture from `probabilities`, best first. */
fun top(probabilities: FloatArray, count: Int = 5): List<Named> =
    probabilities.indices.sortedByDescending { probabilities[it] }.take(count).map { Named(it, probabilities[it]) }
