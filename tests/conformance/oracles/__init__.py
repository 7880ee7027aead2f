"""What each provider's answers say, read plainly and without the wires' code.

A module per format, each with `told` (what an answer says), `whole` (a stream as an answer that is not
streamed) and `stream` (the way back)."""
