/** Computes what it reads a line of for each case, so that Python can compare it. */
import mbdet.*

fun main() {
    val results = StringBuilder()
    generateSequence(::readLine).forEach { line ->
        val words = line.split(' ').iterator()
        fun int() = words.next().toInt()
        fun float() = words.next().toFloat()
        fun size() = Size(int(), int())
        fun resizing() = Resizing.valueOf(words.next().uppercase())
        fun bytes(count: Int) = ByteArray(count) { int().toByte() }
        fun floats(count: Int) = FloatArray(count) { float() }
        fun write(bytes: ByteArray) = bytes.joinTo(results, " ") { (it.toInt() and 255).toString() }
        when (words.next()) {
            "prepare" -> {
                val size = size()
                val (input, resizing) = Pair(size(), resizing())
                val crop = words.next().toDouble()
                val picture = Picture(size.height, size.width, bytes(3 * size.height * size.width))
                write(planes(prepare(picture, input, resizing, crop)))
            }
            "detections" -> {
                val (input, picture) = Pair(size(), size())
                val (anchors, classes) = Pair(int(), int())
                val decoding = Decoding(float(), float(), int(), int(), int())
                val outputs = mapOf("anchor_boxes" to floats(4 * anchors), "class_scores" to floats(anchors * classes))
                found(input, picture, classes, outputs, decoding = decoding).objects(0f).joinTo(results, " ") {
                    "${it.label} ${it.score} ${it.box.x1} ${it.box.y1} ${it.box.x2} ${it.box.y2}"
                }
            }
            "map" -> {
                val (input, picture) = Pair(size(), size())
                val (resizing, classes) = Pair(resizing(), int())
                val outputs = mapOf("probabilities" to floats(classes * input.height * input.width))
                write(found(input, picture, classes, outputs, resizing).labels())
            }
            "top" -> {
                val count = int()
                val outputs = mapOf("probabilities" to floats(count))
                found(Size(1, 1), Size(1, 1), count, outputs).classes().joinTo(results, " ") { "${it.label} ${it.score}" }
            }
        }
        results.append('\n')
    }
    print(results)
}

/** What a file of so many classes found, given its outputs. */
fun found(
    input: Size,
    picture: Size,
    classes: Int,
    outputs: Map<String, FloatArray>,
    resizing: Resizing = Resizing.STRETCH,
    decoding: Decoding? = null,
): Found {
    val names = List(classes) { "$it" }
    val description = Description(outputs.keys.toList(), input, resizing, 1.0, decoding, names, null)
    return Found(description, picture, Outputs(outputs, emptyMap()))
}
