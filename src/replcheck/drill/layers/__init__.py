"""What proves a restored copy, one module a layer, behind the interface in `layer`."""
