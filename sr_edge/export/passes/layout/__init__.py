"""Passes that store and combine tensors so that compilers spend their time on arithmetic rather than on movement."""
