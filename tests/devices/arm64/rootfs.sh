#!/usr/bin/env bash
# rootfs.sh DIR CACHE.tar.zst: the files of an ARM64 device (Debian 12, Python 3.11, sshd, ONNX Runtime), from public packages.
# Nothing is emulated while it is built. About a minute without the cache, a few seconds with it; 280 MB.
# Needs root, and from Debian: mmdebstrap, zstd. PIP names a pip that may be used; the engine goes to /opt/engine.
set -euo pipefail
root=$1 cache=$2
rm -rf "$root"
if [[ -s $cache ]]; then
    mkdir -p "$root"
    tar -C "$root" --zstd -xf "$cache"
    exit
fi
# --variant=extract runs none of the packages' own scripts, which would be ARM64 programs: what they would set up follows.
mmdebstrap --quiet --mode=root --variant=extract --architectures=arm64 \
    --include=python3,openssh-server,base-files,base-passwd,bash,dash,coreutils,libc-bin,procps,libstdc++6,grep,sed \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' bookworm "$root"
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
sed -i 's#^root:.*#root:*:0:0:root:/root:/bin/bash#' "$root/etc/passwd"
echo 'sshd:*:101:65534::/run/sshd:/usr/sbin/nologin' >>"$root/etc/passwd"
printf 'passwd: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
[[ -e $root/bin/sh ]] || ln -s dash "$root/bin/sh"
mkdir -p "$root"/run/sshd "$root"/dev/shm "$root"/dev/pts "$root"/etc/ssh "$root"/root/.ssh "$root"/tmp
chmod 1777 "$root/tmp"
${PIP:-python3 -m pip} install -q --no-compile --target "$root/opt/engine" --only-binary=:all: \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
    --python-version 3.11 --implementation cp --abi cp311 --abi none --abi abi3 onnxruntime numpy
part=$cache.$$
tar -C "$root" --exclude=./dev --zstd -cf "$part" .
mv "$part" "$cache" # whole or not at all: another run may be looking
