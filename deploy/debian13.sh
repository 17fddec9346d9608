#!/bin/sh
# Makes a folder with Debian 13 and its RabbitMQ 4 in it, against which the tests can run: `make rabbitmq4`.
# Nothing of this machine changes but for Debian's `debootstrap`, installed where it is missing (as root, on Debian). The packages
# come from the mirror that this machine's own apt uses, or from $DEBIAN_MIRROR. A folder that is finished is left as it is.
# FOLDER/relay then holds commands by the names of RabbitMQ's own, each of which runs that program inside the folder, as root, in
# a mount namespace of its own: $RELAY_RABBITMQ=FOLDER/relay makes the relay's private broker start from there.
set -eu
folder=${1:?the folder to make}
release=trixie
commands="rabbitmq-server rabbitmqctl epmd"

stop() {
  echo "$1" >&2
  exit 69
}

[ "$(uname -s)" = Linux ] && command -v unshare >/dev/null 2>&1 || stop "Linux with unshare (of util-linux) is needed."
[ "$(id -u)" = 0 ] || stop "Debian 13 in a folder needs root: debootstrap, chroot and mount are not for everybody."
if ! [ -e "$folder/relay/finished" ]; then
  if ! command -v debootstrap >/dev/null 2>&1; then
    command -v apt-get >/dev/null 2>&1 || stop "Install debootstrap with this system's package manager and run the same command again."
    echo "Installing the system package: debootstrap" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap debian-archive-keyring >/dev/null
  fi
  mirror=${DEBIAN_MIRROR:-}
  if [ -z "$mirror" ] && command -v apt-get >/dev/null 2>&1; then
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
  fi
  [ -n "$mirror" ] || stop "No mirror of Debian in this machine's apt sources (after apt-get update). Name one: DEBIAN_MIRROR=..."
  # A folder that was begun and not finished is begun anew; it is ours only if debootstrap made it.
  if [ -e "$folder" ]; then
    [ -d "$folder/debootstrap" ] || [ -d "$folder/var/lib/dpkg" ] || stop "$folder exists and is no Debian that was begun here."
    rm -rf --one-file-system "$folder"
  fi
  mkdir -p "$folder"
  echo "Making Debian 13 with RabbitMQ 4 in $folder (some minutes, 400 MB)" >&2
  log=$folder.log
  nice debootstrap --variant=minbase --include=rabbitmq-server "$release" "$folder" "$mirror" >"$log" 2>&1 ||
    stop "debootstrap failed; its last words, the rest is in $log: $(tail -n 3 "$log")"
  rm -f "$folder"/var/cache/apt/archives/*.deb
fi

folder=$(cd "$folder" && pwd)
mkdir -p "$folder/relay"
cat >"$folder/relay/inside" <<'END'
#!/bin/sh
# Runs the RabbitMQ program by whose name it was called inside this Debian. The caller's $HOME, where the private broker keeps
# everything, is there too, at its own path; what is mounted for that ends with the program, which keeps this process's id.
name=${0##*/}
root=$(cd "${0%/*}/.." && pwd)
case $name in rabbitmq*) program=/usr/lib/rabbitmq/bin/$name ;; *) program=/usr/bin/$name ;; esac
exec unshare --mount /bin/sh -euc '
  root=$1 program=$2 top=${HOME#/}
  shift 2
  top=$root/${top%%/*}
  mount --rbind /proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mkdir -p "$top"
  mount -t tmpfs -o mode=755 relay "$top"
  mkdir -p "$root$HOME"
  mount --bind "$HOME" "$root$HOME"
  exec chroot "$root" /usr/bin/env --chdir="$HOME" "$program" "$@"' "$name" "$root" "$program" "$@"
END
chmod 755 "$folder/relay/inside"
for command in $commands; do
  ln -sf inside "$folder/relay/$command"
done
touch "$folder/relay/finished"
chroot "$folder" dpkg-query --show --showformat '${Package} ${Version}\n' rabbitmq-server erlang-base >&2
