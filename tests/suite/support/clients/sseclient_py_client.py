"""Follows a stream with sseclient-py and prints whatever it calls an event as a line of JSON.

Arguments: address, token.
"""

import json
import sys

import httpx
from sseclient import SSEClient

address, token = sys.argv[1:]
headers = {"Authorization": f"Bearer {token}"}
# A stream may be silent for as long as its heartbeat takes.
with httpx.Client(trust_env=False, timeout=httpx.Timeout(30)) as client:
    with client.stream("GET", address, headers=headers) as response:
        response.raise_for_status()
        for event in SSEClient(response.iter_bytes()).events():
            print(json.dumps({"event": event.event, "data": event.data, "id": event.id or ""}))
