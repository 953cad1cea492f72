/** LiteRT's Interpreter as engine of a `.tflite` file. */
package mbdet

import android.content.res.AssetManager
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.tensorflow.lite.Interpreter

/** Computes a `.tflite` file among the assets, on the CPU. */
class LiteRtEngine(assets: AssetManager, name: String, threads: Int = 4) : Engine {
    private val interpreter = Interpreter(mapped(assets, name), Interpreter.Options().setNumThreads(threads))
    private val signature = interpreter.signatureKeys.single()

    override fun compute(input: Picture): Outputs {
        val pixels = direct(input.rgb.size)
        pixels.put(input.rgb).rewind()
        val found = interpreter.getSignatureOutputs(signature).associateWith {
            direct(interpreter.getOutputTensorFromSignature(it, signature).numBytes())
        }
        interpreter.runSignature(mapOf<String, Any>("images" to pixels), found, signature)
        found.values.forEach { it.rewind() }
        val (labels, numbers) = found.entries.partition { it.key == "classes" }
        return Outputs(
            numbers.associate { (name, values) ->
                name to FloatArray(values.remaining() / 4).also { values.asFloatBuffer().get(it) }
            },
            labels.associate { (name, values) -> name to ByteArray(values.remaining()).also { values.get(it) } },
        )
    }

    override fun close() = interpreter.close()
}

private fun direct(size: Int): ByteBuffer = ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder())

/** Map a file into memory; it must not be compressed in the app, as Android's build leaves `.tflite` by itself. */
private fun mapped(assets: AssetManager, name: String): ByteBuffer = assets.openFd(name).use { file ->
    FileInputStream(file.fileDescriptor).channel.use {
        it.map(FileChannel.MapMode.READ_ONLY, file.startOffset, file.declaredLength)
    }
}
