"""The catalogue's table: every set of weights that the nodes can use.

Sizes, checksums and layouts of the LivePortrait and JoyVASA files are those that their references document
(reference/liveportrait/manifest.json, reference/joyvasa/manifest.json); where a size is only known as "about", the
file's own table of contents decides.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightFile:
    """One file.

    Attributes:
        role: what the loader calls it; unique within an entry.
        name: its path below the entry's folder.
        remote: its path in the hub repository.
        about: bytes, for the free-space check and the list.
        size: bytes of the published file, where they are known exactly.
        sha256: of the published file, where it is known.
        manifest: name of its tensors' list in ``data/manifests.json``; None for side files.
        also: other paths below the entry's folder where people keep it.
        home: the entry's folder is replaced by this one, for a file that two entries share.
        marks: beginnings of tensor names that must occur, for a file without a list.
    """

    role: str
    name: str
    remote: str
    about: int
    size: int | None = None
    sha256: str | None = None
    manifest: str | None = None
    also: tuple[str, ...] = ()
    home: str | None = None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One published form of an entry's files: a hub repository at a revision."""

    form: str
    repository: str
    files: tuple[WeightFile, ...]
    revision: str = "main"


@dataclass(frozen=True)
class Entry:
    """A set of weights.

    Attributes:
        name: what the commands call it.
        title: what people call it.
        role: what it is for.
        folder: where its files lie, relative to a folder "models"; the first part is ComfyUI's name of a model folder.
        sources: published forms; the first is what ``download`` fetches, all are found on the disk.
        licence: of the weights.
        commercial: whether that licence allows commercial use.
        note: what else a user should know.
    """

    name: str
    title: str
    role: str
    folder: str
    sources: tuple[Source, ...]
    licence: str
    commercial: bool = True
    note: str = ""

    @property
    def about(self) -> int:
        """Bytes of the form that ``download`` fetches."""
        return sum(file.about for file in self.sources[0].files)

    @property
    def bundled(self) -> bool:
        return not self.folder


@dataclass(frozen=True)
class _Network:
    """One of LivePortrait's files: bytes and SHA-256 of its safetensors form, about bytes of the .pth."""

    stem: str
    size: int
    sha256: str
    about: int


LIVEPORTRAIT = {
    "appearance": _Network("appearance_feature_extractor", 3_361_936,
                           "38bef5de50a92bf1fc66e8c511051a19dfacdf80c37f8713425ec15dc9ca7d34", 3_390_000),
    "motion": _Network("motion_extractor", 112_496_256,
                       "3568cd410e29d046771acb55ecfdfe4c7c197d345bd8b7f95942ef63130b6c9e", 113_000_000),
    "warping": _Network("warping_module", 182_158_564,
                        "f7b7834bd6039b4088f72e5161e60ad366f68a3763df8a3eac0bc0f9d46fdbbf", 182_000_000),
    "generator": _Network("spade_generator", 221_771_768,
                          "ca04fbec765745e9eae836d2d7522c274647b277ce5f25104fa1705b75222212", 222_000_000),
    "stitching": _Network("stitching_retargeting_module", 911_836,
                          "60725cf3523ae413880da28ed583c9e84c5c25695a0cef1b77210ea31cc424ea", 2_390_000),
}
KIJAI, KWAI = "Kijai/LivePortrait_safetensors", "KwaiVGI/LivePortrait"


def _safetensors(role: str) -> WeightFile:
    net = LIVEPORTRAIT[role]
    name = f"{net.stem}.safetensors"
    return WeightFile(role, name, name, net.size, net.size, net.sha256, f"liveportrait/{net.stem}", home="liveportrait")


def _pth(role: str) -> WeightFile:
    net = LIVEPORTRAIT[role]
    inside = f"{'retargeting_models' if role == 'stitching' else 'base_models'}/{net.stem}.pth"
    return WeightFile(role, inside, f"liveportrait/{inside}", net.about, manifest=f"liveportrait/{net.stem}",
                      also=(f"{net.stem}.pth", f"liveportrait/{inside}"), home="liveportrait")


def _animal(role: str, form: str) -> WeightFile:
    """The animals' four networks; stitching is the human file in both forms (SPEC.md 7)."""
    if role == "stitching":
        return _safetensors(role) if form == "safetensors" else _pth(role)
    net = LIVEPORTRAIT[role]
    if form == "safetensors":
        # The same tensors as the human file; the exact size is not documented.
        return WeightFile(role, f"{net.stem}.safetensors", f"animal/{net.stem}.safetensors", net.size,
                          manifest=f"liveportrait/{net.stem}")
    inside = f"base_models_v1.1/{net.stem}.pth"
    return WeightFile(role, inside, f"liveportrait_animals/{inside}", net.about, manifest=f"liveportrait/{net.stem}",
                      also=(f"base_models/{net.stem}.pth", f"{net.stem}.pth"))


def _encoder(name: str, title: str, repository: str, weights: str, manifest: str, licence: str, language: str) -> Entry:
    folder = f"playmate/{repository.split('/')[1]}"
    other = "pytorch_model.bin" if weights == "model.safetensors" else "model.safetensors"
    files = (WeightFile("model", weights, weights, 378_000_000, manifest=manifest, also=(other,)),
             WeightFile("config", "config.json", "config.json", 2_000),
             WeightFile("preprocessor", "preprocessor_config.json", "preprocessor_config.json", 300))
    return Entry(name, title, f"speech encoder, {language}; for motion models trained on its features", folder,
                 (Source("transformers", repository, files),), licence)


BUNDLED_FILES = (  # role, file names, beginnings of the tensor names by which it is known
    ("face", ("face.safetensors",), ("detector_short.", "detector_full.", "mesh.", "blendshapes.")),
    ("face_mesh", ("face_mesh.safetensors",), ("triangles", "vertices")),
    ("speech", ("speech_encoder.safetensors",), ("position_response", "conv1.")),
    ("motion", ("motion.safetensors", "motion_stage1.safetensors"), ("denoiser.",)),
    ("bridge", ("bridge.safetensors",), ("forward", "covariance", "mean_face")),
    ("emotions", ("emotions.safetensors",), ("offsets",)),
    ("arkit", ("arkit.safetensors",), ("latents",)),
)
"""Everything that the bundled pack loads. Sizes and shapes change as these are retrained; the loaders check them."""


ENTRIES: tuple[Entry, ...] = (
    Entry("bundled", "the bundled pack", "everything that pack 'bundled' needs; ships with the nodes", "",
          (Source("bundled", "", tuple(WeightFile(role, names[0], "", 0, marks=marks, also=names[1:])
                                       for role, names, marks in BUNDLED_FILES)),), "Apache-2.0, MIT"),
    Entry("liveportrait", "LivePortrait", "renderer for people: pack 'liveportrait'", "liveportrait",
          (Source("safetensors", KIJAI, tuple(map(_safetensors, LIVEPORTRAIT))),
           Source("pth", KWAI, tuple(map(_pth, LIVEPORTRAIT)))), "MIT",
          note="The InsightFace detectors of the original package are non-commercial; they are neither needed nor "
               "fetched."),
    Entry("liveportrait-animal", "LivePortrait (animals)", "renderer for cats, dogs and other animals",
          "liveportrait/animal",
          (Source("safetensors", KIJAI, tuple(_animal(role, "safetensors") for role in LIVEPORTRAIT)),
           Source("pth", KWAI, tuple(_animal(role, "pth") for role in LIVEPORTRAIT))), "MIT",
          note="The stitching file is the human one. The original package's X-Pose detector is non-commercial; it is "
               "neither needed nor fetched."),
    Entry("joyvasa", "JoyVASA", "speech to motion, English and Chinese; carries its own speech encoder",
          "playmate/joyvasa",
          (Source("pt", "jdh-algo/JoyVASA", (
              WeightFile("checkpoint", "motion_generator_hubert_chinese.pt",
                         "motion_generator/motion_generator_hubert_chinese.pt", 414_000_000,
                         sha256="9dd869329725caedf5f0c13dd383abec1e385f566d8afe2047b141f604844e80",
                         manifest="joyvasa/motion_generator",
                         also=("motion_generator/motion_generator_hubert_chinese.pt",)),
              WeightFile("template", "motion_template.pkl", "motion_template/motion_template.pkl", 3_600,
                         sha256="294ce67350b18031b375361756f654c76d5e14c8f1e319cf9ed07f759ef81a98",
                         manifest="joyvasa/motion_template", also=("motion_template/motion_template.pkl",))),
                  revision="b8f13fe9c23679c56f21b1baafb92ed00dc087c3"),), "MIT",
          note="Chosen under motion_model. Its repository says nothing about the weights apart from the code's MIT."),
    _encoder("wav2vec2", "wav2vec2-base-960h", "facebook/wav2vec2-base-960h", "model.safetensors", "wav2vec2-base",
             "Apache-2.0", "English"),
    _encoder("hubert", "HuBERT-base", "facebook/hubert-base-ls960", "pytorch_model.bin", "hubert-base", "Apache-2.0",
             "English"),
    _encoder("chinese-hubert", "Chinese HuBERT-base", "TencentGameMate/chinese-hubert-base", "pytorch_model.bin",
             "hubert-base", "MIT", "Chinese"),
    _encoder("chinese-wav2vec2", "Chinese wav2vec2-base", "TencentGameMate/chinese-wav2vec2-base",
             "pytorch_model.bin", "wav2vec2-base", "MIT", "Chinese"),
)
