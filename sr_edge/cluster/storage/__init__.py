"""Where the files of a batch are: what to upscale, how it is read and written, and what is finished."""
