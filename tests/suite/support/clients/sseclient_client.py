"""Follows a stream with sseclient and prints whatever it calls a message as a line of JSON.

Arguments: address, token.
"""

import json
import sys

import requests
from sseclient import SSEClient

address, token = sys.argv[1:]
session = requests.Session()
session.trust_env = False
headers = {"Authorization": f"Bearer {token}"}
for message in SSEClient(address, session=session, headers=headers):
    print(json.dumps({"event": message.event, "data": message.data, "id": message.id or ""}))
