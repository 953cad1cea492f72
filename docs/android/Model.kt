/** An exported file ready for use, whatever engine runs it. */
package mbdet

/** What an app must know of `FILE.json`. */
class Description(
    val task: String,
    val outputs: List<String>,
    val input: Size,
    val resizing: Resizing,
    val crop: Double,
    /** Of a file that finds objects. */
    val decoding: Decoding?,
    /** Names of the labels of objects and of whole pictures; of pixels too, but for a multitask file. */
    val classNames: List<String>,
    /** Names of the labels of pixels in a multitask file. */
    val segmentNames: List<String>?,
) {
    /** Names of the labels of pixels. */
    val pixelNames: List<String> get() = segmentNames ?: classNames
}

/** The outputs of a file by name: numbers, or for `classes` the labels, a byte each. */
class Outputs(val numbers: Map<String, FloatArray>, val labels: Map<String, ByteArray>)

/** What computes a file. */
interface Engine : AutoCloseable {
    /** Compute the outputs for a picture of the input's size. */
    fun compute(input: Picture): Outputs
}

/** A file with the engine that computes it. Use it on one thread, not that of the user interface. */
class Model(val description: Description, private val engine: Engine) : AutoCloseable by engine {
    fun find(picture: Picture): Found {
        val input = prepare(picture, description.input, description.resizing, description.crop)
        return Found(description, Size(picture.height, picture.width), engine.compute(input))
    }
}

/** What a file found in a picture: ask for that which its task gives. */
class Found(private val description: Description, private val size: Size, private val outputs: Outputs) {
    /** The objects, best first, with boxes in the pixels of the picture. */
    fun objects(scoreThreshold: Float = 0.5f): List<Detection> = detections(
        outputs.numbers.getValue("anchor_boxes"),
        outputs.numbers.getValue("class_scores"),
        description.classNames.size,
        description.decoding!!,
        description.input,
        size,
    ).filter { it.score >= scoreThreshold }

    /** The label of each pixel of the picture, row by row: an index into `pixelNames` of the description. */
    fun labels(): IntArray =
        restoreMap(outputs.labels.getValue("classes"), description.input, size, description.resizing)

    /** The likeliest classes of the whole picture, best first. */
    fun names(): List<Named> {
        // The probabilities of a segmenter are those of pixels.
        require(description.task == "classification") { "names() needs a classifier, not ${description.task}" }
        return top(outputs.numbers.getValue("probabilities"))
    }
}
