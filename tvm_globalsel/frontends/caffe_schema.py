"""The part of Caffe's message format that describes networks for inference, for protobuf's own parsers.

Names, numbers and defaults are those of ``src/caffe/proto/caffe.proto`` in BVLC Caffe 1.0. Fields that only training or
a data source needs are left out, so that the text parser refuses by name what would otherwise be silently ignored; the
binary parser skips them, as protobuf always does.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "caffe"

#: Enumerations: names in the order of their numbers.
_ENUMS: dict[str, tuple[str, ...]] = {
    "Phase": ("TRAIN", "TEST"),
    "DimCheckMode": ("STRICT", "PERMISSIVE"),
    "VarianceNorm": ("FAN_IN", "FAN_OUT", "AVERAGE"),
    "Engine": ("DEFAULT", "CAFFE", "CUDNN"),
    "PoolMethod": ("MAX", "AVE", "STOCHASTIC"),
    "RoundMode": ("CEIL", "FLOOR"),
    "NormRegion": ("ACROSS_CHANNELS", "WITHIN_CHANNEL"),
    "EltwiseOp": ("PROD", "SUM", "MAX"),
    "V1LayerType": (
        "NONE", "ACCURACY", "BNLL", "CONCAT", "CONVOLUTION", "DATA", "DROPOUT", "EUCLIDEAN_LOSS", "FLATTEN",
        "HDF5_DATA", "HDF5_OUTPUT", "IM2COL", "IMAGE_DATA", "INFOGAIN_LOSS", "INNER_PRODUCT", "LRN",
        "MULTINOMIAL_LOGISTIC_LOSS", "POOLING", "RELU", "SIGMOID", "SOFTMAX", "SOFTMAX_LOSS", "SPLIT", "TANH",
        "WINDOW_DATA", "ELTWISE", "POWER", "SIGMOID_CROSS_ENTROPY_LOSS", "HINGE_LOSS", "MEMORY_DATA", "ARGMAX",
        "THRESHOLD", "DUMMY_DATA", "SLICE", "MVN", "ABSVAL", "SILENCE", "CONTRASTIVE_LOSS", "EXP", "DECONVOLUTION",
    ),
}  # fmt: skip

#: Messages: fields as "number [*]type name[=default]", a star for a repeated one; types in capitals are those above
#: and below.
_MESSAGES: dict[str, tuple[str, ...]] = {
    "BlobShape": ("1 *int64 dim",),
    "BlobProto": (
        "1 int32 num", "2 int32 channels", "3 int32 height", "4 int32 width", "5 *float data", "7 BlobShape shape",
        "8 *double double_data",
    ),
    "FillerParameter": (
        "1 string type", "2 float value", "3 float min", "4 float max", "5 float mean", "6 float std",
        "7 int32 sparse", "8 VarianceNorm variance_norm",
    ),
    "NetState": ("1 Phase phase=TEST", "2 int32 level", "3 *string stage"),
    "NetStateRule": (
        "1 Phase phase", "2 int32 min_level", "3 int32 max_level", "4 *string stage", "5 *string not_stage",
    ),
    "ParamSpec": ("1 string name", "2 DimCheckMode share_mode", "3 float lr_mult", "4 float decay_mult"),
    "TransformationParameter": (
        "1 float scale=1", "2 bool mirror", "3 uint32 crop_size", "4 string mean_file", "5 *float mean_value",
        "6 bool force_color", "7 bool force_gray",
    ),
    "BatchNormParameter": ("1 bool use_global_stats", "2 float moving_average_fraction", "3 float eps=1e-5"),
    "ConcatParameter": ("1 uint32 concat_dim", "2 int32 axis=1"),
    "ConvolutionParameter": (
        "1 uint32 num_output", "2 bool bias_term=true", "3 *uint32 pad", "4 *uint32 kernel_size", "5 uint32 group=1",
        "6 *uint32 stride", "7 FillerParameter weight_filler", "8 FillerParameter bias_filler", "9 uint32 pad_h",
        "10 uint32 pad_w", "11 uint32 kernel_h", "12 uint32 kernel_w", "13 uint32 stride_h", "14 uint32 stride_w",
        "15 Engine engine", "16 int32 axis=1", "17 bool force_nd_im2col", "18 *uint32 dilation",
    ),
    "DropoutParameter": ("1 float dropout_ratio",),
    "EltwiseParameter": ("1 EltwiseOp operation=SUM", "2 *float coeff", "3 bool stable_prod_grad"),
    "FlattenParameter": ("1 int32 axis=1", "2 int32 end_axis=-1"),
    "InnerProductParameter": (
        "1 uint32 num_output", "2 bool bias_term=true", "3 FillerParameter weight_filler",
        "4 FillerParameter bias_filler", "5 int32 axis=1", "6 bool transpose",
    ),
    "InputParameter": ("1 *BlobShape shape",),
    "LRNParameter": (
        "1 uint32 local_size=5", "2 float alpha=1", "3 float beta=0.75", "4 NormRegion norm_region", "5 float k=1",
        "6 Engine engine",
    ),
    "PoolingParameter": (
        "1 PoolMethod pool", "2 uint32 kernel_size", "3 uint32 stride=1", "4 uint32 pad", "5 uint32 kernel_h",
        "6 uint32 kernel_w", "7 uint32 stride_h", "8 uint32 stride_w", "9 uint32 pad_h", "10 uint32 pad_w",
        "11 Engine engine", "12 bool global_pooling", "13 RoundMode round_mode",
    ),
    "ReLUParameter": ("1 float negative_slope", "2 Engine engine"),
    "ReshapeParameter": ("1 BlobShape shape", "2 int32 axis", "3 int32 num_axes=-1"),
    "ScaleParameter": (
        "1 int32 axis=1", "2 int32 num_axes=1", "3 FillerParameter filler", "4 bool bias_term",
        "5 FillerParameter bias_filler",
    ),
    "SigmoidParameter": ("1 Engine engine",),
    "SoftmaxParameter": ("1 Engine engine", "2 int32 axis=1"),
    "TanHParameter": ("1 Engine engine",),
    "LayerParameter": (
        "1 string name", "2 string type", "3 *string bottom", "4 *string top", "5 *float loss_weight",
        "6 *ParamSpec param", "7 *BlobProto blobs", "8 *NetStateRule include", "9 *NetStateRule exclude",
        "10 Phase phase", "11 *bool propagate_down", "100 TransformationParameter transform_param",
        "104 ConcatParameter concat_param", "106 ConvolutionParameter convolution_param",
        "108 DropoutParameter dropout_param", "110 EltwiseParameter eltwise_param",
        "117 InnerProductParameter inner_product_param", "118 LRNParameter lrn_param",
        "121 PoolingParameter pooling_param", "123 ReLUParameter relu_param", "124 SigmoidParameter sigmoid_param",
        "125 SoftmaxParameter softmax_param", "127 TanHParameter tanh_param", "133 ReshapeParameter reshape_param",
        "135 FlattenParameter flatten_param", "139 BatchNormParameter batch_norm_param",
        "142 ScaleParameter scale_param", "143 InputParameter input_param",
    ),
    "V1LayerParameter": (
        "2 *string bottom", "3 *string top", "4 string name", "5 V1LayerType type", "6 *BlobProto blobs",
        "7 *float blobs_lr", "8 *float weight_decay", "9 ConcatParameter concat_param",
        "10 ConvolutionParameter convolution_param", "12 DropoutParameter dropout_param",
        "17 InnerProductParameter inner_product_param", "18 LRNParameter lrn_param",
        "19 PoolingParameter pooling_param", "24 EltwiseParameter eltwise_param", "30 ReLUParameter relu_param",
        "32 *NetStateRule include", "33 *NetStateRule exclude", "35 *float loss_weight",
        "36 TransformationParameter transform_param", "37 TanHParameter tanh_param",
        "38 SigmoidParameter sigmoid_param", "39 SoftmaxParameter softmax_param", "1001 *string param",
        "1002 *DimCheckMode blob_share_mode",
    ),
    "NetParameter": (
        "1 string name", "2 *V1LayerParameter layers", "3 *string input", "4 *int32 input_dim",
        "5 bool force_backward", "6 NetState state", "7 bool debug_info", "8 *BlobShape input_shape",
        "100 *LayerParameter layer",
    ),
}  # fmt: skip

_NUMBERS = {"float", "double", "int32", "int64", "uint32", "bool"}


def _net_parameter() -> type[Any]:
    """The class of whole networks, in a pool of its own: a Caffe installed beside us registers the same names."""
    file = descriptor_pb2.FileDescriptorProto(name="globalsel/caffe.proto", package=_PACKAGE, syntax="proto2")
    for name, values in _ENUMS.items():
        # values live in the scope around their enumeration, so that each gets a message of its own to live in
        enum = file.message_type.add(name=f"{name}s").enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for line in fields:
            _add_field(message, *line.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.NetParameter"))
    return found


def _add_field(message: descriptor_pb2.DescriptorProto, number: str, kind: str, named: str) -> None:
    name, _, default = named.partition("=")
    repeated = kind.startswith("*")
    kind = kind.lstrip("*")
    field = message.field.add(name=name, number=int(number))
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind in _ENUMS or kind in _MESSAGES:
        field.type = field.TYPE_ENUM if kind in _ENUMS else field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}s.{kind}" if kind in _ENUMS else f".{_PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    if default:
        field.default_value = default
    if repeated and kind in _NUMBERS:
        field.options.packed = True  # parsers accept either form


NetParameter = _net_parameter()
