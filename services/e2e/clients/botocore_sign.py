"""Signs requests as botocore does, at the time that each of them names.

Reads a JSON list from the file that is named and writes the list of `Authorization` values to standard output. Each
entry has method, url, headers (a list of pairs), body (text), access_key, secret_key, session_token (or null), region,
service and date (as in x-amz-date).
"""

import datetime
import json
import sys

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def authorization(entry):
    moment = datetime.datetime.strptime(entry["date"], "%Y%m%dT%H%M%SZ")
    botocore.auth.get_current_datetime = lambda *_, **__: moment
    request = AWSRequest(
        method=entry["method"], url=entry["url"], data=entry["body"].encode()
    )
    for name, value in entry["headers"]:
        request.headers[name] = value
    credentials = Credentials(entry["access_key"], entry["secret_key"], entry["session_token"])
    botocore.auth.SigV4Auth(credentials, entry["service"], entry["region"]).add_auth(request)
    return request.headers["Authorization"]


with open(sys.argv[1], encoding="utf-8") as file:
    json.dump([authorization(entry) for entry in json.load(file)], sys.stdout)
