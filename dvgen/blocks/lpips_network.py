"""The networks of the lpips package, with weights from this machine. Their files are looked for and never fetched."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from dvgen.blocks.weight_file import read_weight_file
from dvgen.errors import DataError
from dvgen.interfaces.weights import WeightFile


class Trunk(NamedTuple):
    """A network of torchvision: its file of ImageNet weights, and the smallest images (pixels across) that it takes."""

    net: str
    file: str
    least: int

    @property
    def expected_hash(self) -> str:
        """The start of the file's SHA-256, which by torchvision's custom ends its name."""
        return Path(self.file).stem.rpartition("-")[2]

    @property
    def weight_file(self) -> WeightFile:
        """The file, and where torchvision fetches it from."""
        return WeightFile(
            names=(self.file,),
            sha256=self.expected_hash,
            url=f"https://download.pytorch.org/models/{self.file}",
            need=f"LPIPS of net = {self.net!r} needs the weights",
            instead="loss 'lpips-untrained' (no file needed; NOT a perceptual metric)",
        )


TRUNKS = {
    "vgg": Trunk("vgg", "vgg16-397923af.pth", least=16),
    "alex": Trunk("alex", "alexnet-owt-7be5be79.pth", least=31),
    "squeeze": Trunk("squeeze", "squeezenet1_1-b8a52dc0.pth", least=17),
}


def load_lpips(net: str) -> Any:
    """lpips.LPIPS version 0.1 as constants: no parameters, an empty state, every tensor a buffer.

    The weights of `TRUNKS[net]` are looked for in $DVGEN_WEIGHTS and then in torch's download folder. Raises DataError when
    they are missing or are not the published ones, or when the package's own do not fill its network.
    """
    weights = read_weight_file(TRUNKS[net].weight_file).table
    network = _empty(net)
    # the package calls a trunk's layer slice1.0.weight, and torchvision features.0.weight
    names = {name: f"features.{name.partition('.')[2]}" for name in network.net.state_dict()}
    network.net.load_state_dict({name: weights[there] for name, there in names.items()}, assign=True)
    network.load_state_dict(_heads(net), strict=False, assign=True)
    empty = [name for name, weight in network.named_parameters() if weight.is_meta]
    if empty:
        raise DataError(f"lpips: the package has no weights for {empty[0]} of net = {net!r}; install version 0.1.4 of lpips")
    _make_constant(network)
    return network


def _empty(net: str) -> Any:
    """The package's module without weights: on the meta device, where VGG-16's 138 million cost neither time nor draws."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package uses arguments that torchvision has deprecated
        import lpips  # seconds of imports

        with torch.device("meta"):
            return lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)


def _heads(net: str) -> dict[str, torch.Tensor]:
    """The linear weights, which the package ships."""
    import lpips

    path = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
    return torch.load(path, map_location="cpu", weights_only=True)


def _make_constant(network: nn.Module) -> None:
    """Turn every parameter into a buffer that is moved with the module, but neither trained nor saved."""
    for module in network.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            delattr(module, name)
            module.register_buffer(name, tensor.detach(), persistent=False)
