/** From a picture to the pixels that an exported file takes: the same, to the byte, as mbdet computes in Python. */
package mbdet

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

/**
 * A picture, upright: three bytes for each pixel, red, green and blue, row by row from the top.
 */
class Picture(val height: Int, val width: Int, val rgb: ByteArray) {
    init {
        require(rgb.size == 3 * height * width) { "a picture of $height x $width has ${3 * height * width} bytes" }
    }
}

/** `resize` in the description of a file. */
enum class Resizing { STRETCH, FIT, PAD }

/** Height and width. */
data class Size(val height: Int, val width: Int)

/** Bring a picture to the input of a network; `crop` is `central_crop` in the description, 1 where it has none. */
fun prepare(picture: Picture, input: Size, resizing: Resizing, crop: Double = 1.0): Picture =
    place(centralCrop(picture, crop), input, resizing)

/** Cut the central part out: `fraction` of the height and of the width. */
fun centralCrop(picture: Picture, fraction: Double): Picture {
    val top = margin(picture.height, fraction)
    val left = margin(picture.width, fraction)
    if (top == 0 && left == 0) return picture
    val height = picture.height - 2 * top
    val width = picture.width - 2 * left
    val rgb = ByteArray(3 * height * width)
    for (row in 0 until height) {
        val start = 3 * ((row + top) * picture.width + left)
        picture.rgb.copyInto(rgb, 3 * row * width, start, start + 3 * width)
    }
    return Picture(height, width, rgb)
}

private fun margin(side: Int, fraction: Double): Int = min((side * (1 - fraction) / 2).toInt(), (side - 1) / 2)

/** Height and width of the part of the input, at its top left, that shows a picture. */
fun placedSize(picture: Size, input: Size, resizing: Resizing): Size {
    if (resizing == Resizing.STRETCH) return input
    val zoom = min(input.height.toDouble() / picture.height, input.width.toDouble() / picture.width)
    if (resizing == Resizing.PAD && zoom >= 1) return picture
    return Size(zoomed(picture.height, zoom, input.height), zoomed(picture.width, zoom, input.width))
}

/** Kotlin's `round`, unlike `roundToInt`, takes a half to the even side, as Python does. */
private fun zoomed(side: Int, zoom: Double, limit: Int): Int = max(1, min(round(side * zoom).toInt(), limit))

/** What the picture leaves free is filled with this: `padding_color` in the description. */
private val MEAN_COLOUR = byteArrayOf(124, 116, 104)

/** Bring a picture into the input of a network. */
fun place(picture: Picture, input: Size, resizing: Resizing): Picture {
    val shown = placedSize(Size(picture.height, picture.width), input, resizing)
    val resized = resize(picture, shown)
    if (shown == input) return resized
    val rgb = ByteArray(3 * input.height * input.width) { MEAN_COLOUR[it % 3] }
    for (row in 0 until shown.height) {
        val start = 3 * row * shown.width
        resized.rgb.copyInto(rgb, 3 * row * input.width, start, start + 3 * shown.width)
    }
    return Picture(input.height, input.width, rgb)
}

/**
 * Resize as Pillow's BILINEAR does, the width first: each new pixel is a mean of all old ones that it covers, weighted
 * by a triangle.
 *
 * Bitmap.createScaledBitmap, Canvas and GPUs look at the four nearest pixels alone, and miss the others where a picture
 * becomes much smaller.
 */
fun resize(picture: Picture, size: Size): Picture {
    var now = picture
    if (now.width != size.width) now = resizeRows(now, size.width)
    if (now.height != size.height) now = transpose(resizeRows(transpose(now), size.height))
    return now
}

private const val BITS = 22 // behind the point, in whole numbers that stand for fractions

private fun resizeRows(picture: Picture, width: Int): Picture {
    val rgb = ByteArray(3 * picture.height * width)
    val triangles = List(width) { triangle(picture.width, width, it) }
    for (row in 0 until picture.height) {
        for (column in 0 until width) {
            val (first, weights) = triangles[column]
            for (colour in 0 until 3) {
                var sum = 1 shl (BITS - 1) // a half, so that cutting the bits off rounds
                var from = 3 * (row * picture.width + first) + colour
                for (weight in weights) {
                    sum += (picture.rgb[from].toInt() and 255) * weight
                    from += 3
                }
                rgb[3 * (row * width + column) + colour] = (sum shr BITS).coerceAtMost(255).toByte()
            }
        }
    }
    return Picture(picture.height, width, rgb)
}

/** Which old pixels, from the first on, make up a new one of a row, and with which weights. */
private fun triangle(old: Int, new: Int, index: Int): Pair<Int, IntArray> {
    val scale = old.toDouble() / new
    val reach = max(scale, 1.0)
    val centre = (index + 0.5) * scale
    val first = max((centre - reach + 0.5).toInt(), 0)
    val end = min((centre + reach + 0.5).toInt(), old)
    val shares = DoubleArray(end - first) { max(0.0, 1 - abs((it + first - centre + 0.5) * (1 / reach))) }
    val sum = shares.sum()
    return Pair(first, IntArray(shares.size) { (0.5 + shares[it] / sum * (1 shl BITS)).toInt() })
}

private fun transpose(picture: Picture): Picture {
    val rgb = ByteArray(picture.rgb.size)
    for (row in 0 until picture.height) {
        for (column in 0 until picture.width) {
            val from = 3 * (row * picture.width + column)
            picture.rgb.copyInto(rgb, 3 * (column * picture.height + row), from, from + 3)
        }
    }
    return Picture(picture.width, picture.height, rgb)
}

/** The same pixels with the colours apart, as files with the layout NCHW take them: all red, all green, all blue. */
fun planes(picture: Picture): ByteArray {
    val area = picture.height * picture.width
    return ByteArray(3 * area) { picture.rgb[3 * (it % area) + it / area] }
}
