"""What Core ML's packages say of themselves, which can be read everywhere."""

from pathlib import Path
from typing import Any

from mbdet.runtime.quiet import quiet

Types = dict[str, tuple[str, list[int]]]  # type and shape of each output


def specification(path: Path) -> Any:
    """Return what is in a package."""
    with quiet():
        import coremltools

        return coremltools.models.MLModel(str(path), skip_model_load=True).get_spec()


def output_types(description: Any) -> Types:
    """Return what the outputs of a specification's description are, as Core ML names it."""
    arrays = {output.name: output.type.multiArrayType for output in description.output}
    return {name: (type(array).ArrayDataType.Name(array.dataType), list(array.shape)) for name, array in arrays.items()}


def stated_types(description: dict[str, Any]) -> Types:
    """Return the same as the description beside a package has it."""
    return {name: (of["dtype"].upper(), of["shape"]) for name, of in description["output_types"].items()}
