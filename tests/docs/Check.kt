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
                val description = describe("detection", input, classes, decoding = decoding)
                Found(description, picture, Outputs(outputs, emptyMap())).objects(0f).joinTo(results, " ") {
                    "${it.label} ${it.score} ${it.box.x1} ${it.box.y1} ${it.box.x2} ${it.box.y2}"
                }
            }
            "map" -> {
                val task = words.next()
                val (input, picture) = Pair(size(), size())
                val (resizing, classes) = Pair(resizing(), int())
                val outputs = Outputs(emptyMap(), mapOf("classes" to bytes(input.height * input.width)))
                val description = describe(task, input, classes, resizing)
                Found(description, picture, outputs).labels().joinTo(results, " ") { description.pixelNames[it] }
            }
            "top" -> {
                val (one, task, count) = Triple(Size(1, 1), words.next(), int())
                val outputs = Outputs(mapOf("probabilities" to floats(count)), emptyMap())
                val found = Found(describe(task, one, count), one, outputs)
                found.names().joinTo(results, " ") { "${it.label} ${it.score}" }
            }
        }
        results.append('\n')
    }
    print(results)
}

/** Describe a file of so many classes, which are called by their labels; those of a multitask file are of pixels. */
fun describe(
    task: String,
    input: Size,
    classes: Int,
    resizing: Resizing = Resizing.STRETCH,
    decoding: Decoding? = null,
): Description {
    val names = List(classes) { "$it" }
    val (classNames, segmentNames) = if (task == "multitask") Pair(listOf("object"), names) else Pair(names, null)
    return Description(task, emptyList(), input, resizing, 1.0, decoding, classNames, segmentNames)
}
