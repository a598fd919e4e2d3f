// Reads a list of { secret, headers, body } and prints for each whether npm's standardwebhooks takes it.
const fs = require("node:fs");
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

const accepts = ({ secret, headers, body }) => {
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return false;
    throw error;
  }
};

console.log(JSON.stringify(JSON.parse(fs.readFileSync(0, "utf8")).map(accepts)));
