"""Programs to run, read and copy.

Each module is one application named `app` and says at its top how to call it; run it with

    meshserve run meshserve.examples.quickstart:app

| module        | shows                                                                             |
|---------------|-----------------------------------------------------------------------------------|
| `quickstart`  | deployments, handles, an HTTP ingress                                             |
| `ensemble`    | one class deployed twice under two names, calls in parallel                       |
| `conditional` | the request decides which model answers                                           |
| `chain`       | the response of one call as the argument of the next, without waiting in between  |
| `streaming`   | a generator as server-sent events over HTTP and as a stream over gRPC             |
| `ocr`         | a real model in parts that scale on their own: `pip install 'meshserve[examples]'` |

A replica reserves one core unless told otherwise. The examples ask for less, so that each of them
fits on a small machine.
"""
