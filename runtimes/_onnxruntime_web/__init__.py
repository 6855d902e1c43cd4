"""onnxruntime-web in a browser of this machine: what `onnxruntime_web` is made of.

The Python side starts a headless Chromium (`browser`, watched over by `guard`), serves it a page (`server`) and tells
it what to do over the DevTools pipe (`devtools`); tensors travel over HTTP (`tensors`). The page (``measure.mjs``) runs
and times the model through ``web/edgekit.mjs``: the very module that a bundle gives to an app.
"""
