"""Answers /count, with the platform's SDK."""

from the0 import query, state


@query.handler("/count")
def count(request):
    return {"count": state.get("count", 0)}


query.run()
