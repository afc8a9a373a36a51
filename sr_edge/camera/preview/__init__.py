"""A page that shows a stream before and after, live, with its figures and a switch between runtimes and precisions."""
