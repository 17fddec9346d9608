#!/bin/sh
# Makes sure that the system packages are there: RabbitMQ (unless $RELAY_AMQP names a broker), and Python with its venv module.
# As root on Debian it installs what is missing; otherwise it names the packages and stops. Nothing is started or enabled.
# With the argument `tests`, also what only tests need: libfaketime, which sets one process's clock; systemd's tools, which rate the
# unit of deploy/systemd; Prometheus, which reads real nodes; and Chromium with a font, which looks at the console.
set -eu
python=${PYTHON:-python3}
missing=
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  echo "Python 3.11 or newer is needed as '$python'. Name another one with: make PYTHON=/path/to/python3.11" >&2
  exit 69
}
"$python" -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
if [ -z "${RELAY_AMQP:-}" ] && ! [ -x /usr/sbin/rabbitmq-server ] && ! command -v rabbitmq-server >/dev/null 2>&1; then
  missing="$missing rabbitmq-server"
fi
optional=
if [ "${1:-}" = tests ] && [ -z "$(find /usr/lib -name libfaketime.so.1 2>/dev/null | head -n 1)" ]; then
  optional=" libfaketime"
fi
if [ "${1:-}" = tests ] && ! command -v systemd-analyze >/dev/null 2>&1; then
  optional="$optional systemd"
fi
if [ "${1:-}" = tests ] && ! command -v promtool >/dev/null 2>&1; then
  optional="$optional prometheus"
fi
if [ "${1:-}" = tests ] && ! command -v chromium >/dev/null 2>&1; then
  optional="$optional chromium fonts-dejavu-core"
fi
[ -n "$missing$optional" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  [ -n "$missing" ] || { echo "Without the system package$optional some tests show less." >&2; exit 0; }
  echo "These system packages are missing:$missing" >&2
  echo "Install them (on Debian, as root: apt-get install$missing) and run the same command again." >&2
  exit 69
fi
missing=$missing$optional
echo "Installing the system packages:$missing" >&2
# The project starts RabbitMQ privately, on loopback; keep the package from starting one of its own.
guard=/usr/sbin/policy-rc.d
made=
if ! [ -e $guard ]; then
  made=1
  trap '[ -z "$made" ] || rm -f $guard' EXIT
  printf '#!/bin/sh\nexit 101\n' > $guard
  chmod 755 $guard
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
