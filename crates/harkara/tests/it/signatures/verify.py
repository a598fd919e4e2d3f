"""Reads a list of {secret, headers, body} and prints for each whether PyPI's standardwebhooks takes it."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError


def accepts(case):
    try:
        Webhook(case["secret"]).verify(case["body"], case["headers"])
        return True
    except WebhookVerificationError:
        return False


print(json.dumps([accepts(case) for case in json.loads(sys.stdin.buffer.read())]))
