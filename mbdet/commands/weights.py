"""List, show and convert weights."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from mbdet.errors import InputError
from mbdet.weights.files import write_safetensors
from mbdet.weights.load import bn_eps_of, head_bn_eps_of, hidden_act_of, load_weights, paddings_of
from mbdet.weights.origin import PublishedWeights
from mbdet.weights.published import PUBLISHED, resolve
from mbdet.weights.read import OWN, Weights, notes, places, read_weights


def main(argv: Sequence[str]) -> None:
    """Do one of the three."""
    parser = argparse.ArgumentParser(
        "mbdet weights",
        description="Published weights by name, what is in a weight file, and weights of others under our names.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="print the published weights")
    show = actions.add_parser("show", help="print whose weights these are, what they need, and their tensors")
    show.add_argument("source", help="published name or weight file")
    convert = actions.add_parser("convert", help="write weights as safetensors with our names and layouts")
    convert.add_argument("source", help="published name or weight file")
    convert.add_argument("output", type=Path, help="file to write, called something.safetensors")
    convert.add_argument(
        "--config", metavar="CONFIG", help="a YAML file; its network must fit, and it is what is written"
    )
    options = parser.parse_args(argv)
    if options.action == "list":
        print_list(PUBLISHED)
    elif options.action == "show":
        print_weights(options.source)
    else:
        convert_weights(options.source, options.output, options.config)


def print_list(published: Mapping[str, PublishedWeights]) -> None:
    """Print what each name stands for."""
    for name, weights in published.items():
        convention = weights.convention
        mean, std = (" ".join(f"{x:g}" for x in values) for values in (convention.mean, convention.std))
        fetch = "to be fetched by hand, its checksum is unknown" if weights.sha256 is None else weights.sha256
        print(name)
        heads = "" if convention.head_bn_eps is None else f", of the heads {convention.head_bn_eps:g}"
        print(f"  network   {weights.fits}; padding {convention.padding}, bn_eps {convention.bn_eps:g}{heads}")
        print(f"  images    mean {mean}, std {std}")
        print(f"  accuracy  {weights.accuracy}")
        print(f"  licence   {weights.licence}")
        print(f"  file      {weights.url} ({fetch})\n")


def print_weights(source: str) -> None:
    """Print whose weights these are, what a network must be like for them, and every tensor under our names."""
    if source in PUBLISHED:
        print_list({source: PUBLISHED[source]})
    weights = read_weights(resolve(source))
    if weights.name != OWN:
        print(f"{source}: {weights.name}")
    else:
        print(f"{source}: {'weights under our names' if is_ours(weights) else 'unknown weights'}")
    print(f"  padding: {weights.padding or 'unknown'}")
    print(f"  bn_eps: {weights.bn_eps or 'unknown'}")
    if weights.head_bn_eps is not None:
        print(f"  head_bn_eps: {weights.head_bn_eps}")
    if "hidden.weight" in weights.state:
        print(f"  hidden_act: {weights.hidden_act or 'unknown'}")
    for name in ("mean", "std"):
        print(f"  {name}: {weights.normalization(name) or 'unknown'}")
    parameters = sum(value.numel() for value in weights.state.values() if value.is_floating_point())
    print(f"  {len(weights.state)} tensors, {parameters:,} numbers")
    for name, value in sorted(weights.state.items(), key=_by_number):
        print(f"  {name:60} {str(value.dtype).removeprefix('torch.'):8} {tuple(value.shape)}")


def convert_weights(source: str, output: Path, config: str | None) -> None:
    """Write weights under our names, with what they need in the file's metadata."""
    if output.suffix != ".safetensors":
        raise InputError(f"{output}: a safetensors file is called something.safetensors")
    weights = read_weights(resolve(source))
    if weights.name == OWN and not is_ours(weights):
        raise InputError(f"{source}: not weights of a network that mbdet knows; mbdet weights show {source} lists them")
    state = places(weights)
    left_out = sorted(set(weights.state) - set(state))
    if config is not None:
        from mbdet.config import ConfigCLI  # Lightning, which nothing else here needs

        network = ConfigCLI(Path(config)).task.network
        load_weights(network, source)
        bn_eps, heads = next(iter(bn_eps_of(network.backbone)), None), head_bn_eps_of(network)
        weights = replace(
            weights,
            padding=next(iter(paddings_of(network)), None),
            # Two heads of a multitask network may differ; then there is nothing to say in one number.
            bn_eps=bn_eps if len(heads) < 2 else None,
            head_bn_eps=next(iter(heads - {bn_eps}), None) if len(heads) < 2 else None,
            hidden_act=hidden_act_of(network),
        )
        left_out = []
        state = network.state_dict()
    write_safetensors(state, notes(replace(weights, state=state)), output)
    whose = "our own names" if weights.name == OWN else weights.name
    print(f"{output}: {len(state)} tensors, {output.stat().st_size / 1e6:.1f} MB; from {whose}")
    if left_out:
        print(f"left out, as they have no place in a network of ours: {', '.join(left_out)}")


def is_ours(weights: Weights) -> bool:
    """Tell whether the names are those of a network of ours, or of its backbone alone."""
    return any(name in weights.state for name in ("backbone.stem.conv.weight", "stem.conv.weight"))


def _by_number(item: tuple[str, Tensor]) -> list[tuple[int, str]]:
    """Order blocks.10 after blocks.9."""
    return [(int(part) if part.isdigit() else -1, part) for part in item[0].split(".")]
