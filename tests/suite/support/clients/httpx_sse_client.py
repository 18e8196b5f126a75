"""Follows a stream with httpx-sse and prints each event as a line of JSON.

The package leaves it to its user to connect again; this does it as its documentation says: after
`retry` milliseconds, with the last id. Arguments: address, token.
"""

import json
import sys
import time

import httpx
from httpx_sse import connect_sse

address, token = sys.argv[1:]
last_event_id = ""
retry_ms = 3000
# A stream may be silent for as long as its heartbeat takes.
with httpx.Client(trust_env=False, timeout=httpx.Timeout(30)) as client:
    while True:
        headers = {"Authorization": f"Bearer {token}"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        try:
            with connect_sse(client, "GET", address, headers=headers) as source:
                source.response.raise_for_status()
                for sse in source.iter_sse():
                    last_event_id = sse.id
                    if sse.retry is not None:
                        retry_ms = sse.retry
                    # It shows blocks that carry no event as well.
                    if sse.data:
                        line = {"event": sse.event, "data": sse.data, "id": sse.id}
                        print(json.dumps(line))
        except httpx.TransportError as error:
            print(f"the connection ended: {error!r}", file=sys.stderr)
        time.sleep(retry_ms / 1000)
