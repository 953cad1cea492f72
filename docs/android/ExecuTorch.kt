/** ExecuTorch as engine of a `.pte` file. */
package mbdet

import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/** Computes a `.pte` file, which must be a file of its own and no asset; `outputs` is in its description. */
class ExecuTorchEngine(path: String, private val outputs: List<String>) : Engine {
    private val module = Module.load(path)

    override fun compute(input: Picture): Outputs {
        val shape = longArrayOf(1, 3, input.height.toLong(), input.width.toLong())
        val found = outputs.zip(module.forward(EValue.from(Tensor.fromBlobUnsigned(planes(input), shape))).toList())
        val (labels, numbers) = found.partition { (name, _) -> name == "classes" }
        return Outputs(
            numbers.associate { (name, value) -> name to value.toTensor().dataAsFloatArray },
            labels.associate { (name, value) -> name to value.toTensor().dataAsUnsignedByteArray },
        )
    }

    override fun close() = module.destroy()
}
