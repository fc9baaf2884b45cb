#!/usr/bin/env bash
# Prints the addresses of the system after `make up`.
source "$(dirname "$0")/lib.sh"
orders=${ORDERS_PORT:-8081} pricing=${PRICING_PORT:-8082} sandbox=${SANDBOX_PORT:-8090} management=${MANAGEMENT_PORT:-15672}
admin=$(docker run --rm --entrypoint /bin/sh -v "${COMPOSE_PROJECT_NAME:-orderflow}_rabbitmq-admin:/s:ro" "$(setting POSTGRES_IMAGE)" -c "sed -n 's/^default_pass = //p' /s/10-admin.conf")
cat <<TEXT

Orderflow is up.

  orders        http://127.0.0.1:$orders/v1/orders
  pricing-rpc   http://127.0.0.1:$pricing/v1/prices
  sandbox       http://127.0.0.1:$sandbox/v1/mails      (simulates the payment provider, mail server and webhooks)
  RabbitMQ UI   http://127.0.0.1:$management             log in as admin, password $admin

Place an order, and see what became of it a second later:

  curl -i http://127.0.0.1:$orders/v1/orders -H 'Content-Type: application/json' -d '{"customer_id":"ada","region":"eu","tier":"express","payment_token":"tok_ok","items":[{"sku":"mug","quantity":2}]}'
  curl http://127.0.0.1:$orders/v1/orders?limit=1
  curl http://127.0.0.1:$sandbox/v1/mails?to=ada@example.com

Other payment tokens: tok_declined, tok_flaky_2, tok_slow_2000, tok_broken. \`make logs\` follows the logs of all services.
TEXT
