"""What layers are made of: partly known shapes, validated options, and classes that collect them."""
