"""Sample images from generators and augment image sets with them."""
