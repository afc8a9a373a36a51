"""Frames and their formats: conversion, orientation, timestamps, passthrough streams."""
