"""A model as ONNX files, in fp32 and int8, checked against PyTorch."""
