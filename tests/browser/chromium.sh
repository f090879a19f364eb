#!/bin/sh
# In CI, as root, with apt-get: install the browser of tests/browser. Elsewhere those tests skip and say why.
command -v chromium > /dev/null && exit 0
[ "$CI" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || exit 0
log=$(mktemp)
echo "Installing chromium for the browser tests"
{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } > "$log" 2>&1 ||
  { echo "chromium could not be installed; the browser tests will fail:"; tail -3 "$log"; }
rm -f "$log"
