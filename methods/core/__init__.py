"""What every method shares: configuration, backbone, text tower, contract, losses, registry."""
