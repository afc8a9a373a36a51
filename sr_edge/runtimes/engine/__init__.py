"""What all runtimes share: sessions over compiled graphs, host memory formats, meters, vendor errors."""
