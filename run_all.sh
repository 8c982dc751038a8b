#!/usr/bin/env bash
# The whole study with one command: sets up what is missing, runs the notebooks, prints a table.
#   ./run_all.sh [options]        run the notebooks (./run_all.sh --help lists the options)
#   ./run_all.sh test [options]   pytest and nbval (options go to pytest)
#   ./run_all.sh lab  [options]   JupyterLab in notebooks/ (options go to JupyterLab; loopback only, token kept)
# --env auto|conda|venv|current chooses the environment. auto: the present one if it has the pins of environment.yml, else
# conda (micromamba, mamba or conda), else .venv. Exit codes: 0 ok, 1 failed, 2 usage, 3 environment, 130 interrupted.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
want=auto
command=run
rest=()

usage() { echo "run_all.sh: $1" >&2; exit 2; }
fail() { echo "run_all.sh: $1" >&2; exit 3; }

while (($#)); do
  case "$1" in
    test | lab) if [ "$command" = run ] && ((${#rest[@]} == 0)); then command=$1; else rest+=("$1"); fi; shift ;;
    --env) (($# > 1)) || usage "--env needs a value: auto, conda, venv or current"; want=$2; shift 2 ;;
    --env=*) want=${1#--env=}; shift ;;
    *) rest+=("$1"); shift ;;
  esac
done
case "$want" in auto | conda | venv | current) ;; *) usage "--env $want: not known; use auto, conda, venv or current" ;; esac

# The pip section of environment.yml, one requirement a line, with "-e ." made absolute (a test holds this against a YAML parser).
pins() { awk '/- pip:/ {on=1; next} on && /^ +- / {sub(/^ +- /, ""); print}' "$here/environment.yml"; }
digest() { "$1" -c 'import hashlib,sys; print(hashlib.sha256(open(sys.argv[1],"rb").read()).hexdigest())' "$here/environment.yml"; }

# Does this Python have the pins, and do torch and torchvision really import? Says what is wrong on stderr.
satisfied() {
  pins | "$@" -c '
import importlib.metadata as md, sys
wrong = [] if sys.version_info >= (3, 11) else ["python " + sys.version.split()[0]]
for line in sys.stdin.read().split("\n"):
    name, _, pin = line.strip().partition("==")
    if pin:
        try: have = md.version(name)
        except md.PackageNotFoundError: have = "missing"
        if have.split("+")[0] != pin: wrong.append(f"{name} {have} (needs {pin})")
if wrong: sys.exit("  not as pinned: " + ", ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""))
if sys.path[0] == "": del sys.path[0] # the folder of the call, which may be a clone, is no installation
try: import torch, torchvision, pathlib, importlib.util
except Exception as error: sys.exit(f"  torch and torchvision do not import together: {error}")
spec = importlib.util.find_spec("lotto")
if spec is None: sys.exit("  lotto itself is not installed")
here = pathlib.Path(sys.argv[1]) / "lotto"
if here.resolve() not in [pathlib.Path(p).resolve() for p in spec.submodule_search_locations]: sys.exit("  the lotto installed there is another clone")
' "$here"
}

lock="$here/.venv.lock"
locked=0
# Whoever died with the lock is not waited for: a process of this machine that is gone, one that never said its number, and after an
# hour any other, since that of another machine cannot be looked up here.
acquire() {
  local host holder waited=0 tries=0
  until mkdir "$lock" 2>/dev/null; do
    if [ ! -d "$lock" ]; then # given back just now, or it cannot be made at all
      ((++tries < 5)) || fail "$lock cannot be made: is $here a folder that you may write, with room?"
      continue
    fi
    host="" holder=""
    read -r host holder 2>/dev/null <"$lock/pid" || true
    if { [ -n "$holder" ] && [ "$host" = "$HOSTNAME" ] && ! kill -0 "$holder" 2>/dev/null; } ||
      { [ -z "$holder" ] && ((waited >= 30)); } || ((waited >= 3600)); then
      rm -rf "$lock" || fail "$lock is left of another run, and cannot be removed"
      waited=0; continue
    fi
    ((waited)) || echo "another run_all.sh (process ${holder:-unknown} of ${host:-this machine}) sets up the environment; waiting, an hour at most" >&2
    sleep 3; waited=$((waited + 3))
  done
  echo "$HOSTNAME $$" >"$lock/pid"; locked=1
}
release() { if ((locked)); then rm -rf "$lock"; locked=0; fi; }
trap release EXIT
trap 'release; exit 130' INT TERM

runner=()
try_current() {
  local p
  for p in python3 python; do
    command -v "$p" >/dev/null || continue
    if satisfied "$p"; then runner=("$p"); return 0; fi
    return 1
  done
  return 1
}
try_conda() {
  local tool found="" run
  for tool in micromamba mamba conda; do command -v "$tool" >/dev/null && { found=$tool; break; }; done
  [ -n "$found" ] || { echo "  no micromamba, mamba or conda" >&2; return 1; }
  run=("$found" run -n lotto)
  [ "$found" = micromamba ] || run=("$found" run --no-capture-output -n lotto)
  if "${run[@]}" python -c "" 2>/dev/null && satisfied "${run[@]}" python 2>/dev/null; then runner=("${run[@]}" python); return 0; fi
  echo "setting up the conda environment 'lotto' with $found (a few minutes, about 6 GB)" >&2
  acquire
  local make=(create -y -n lotto -f "$here/environment.yml")
  [ "$found" = micromamba ] || make=(env create --yes -n lotto -f "$here/environment.yml")
  if "${run[@]}" python -c "" 2>/dev/null; then
    make=(update -y -n lotto -f "$here/environment.yml"); [ "$found" = micromamba ] || make=(env update -n lotto -f "$here/environment.yml")
  fi
  if ! (cd "$here" && "$found" "${make[@]}" >&2); then
    release; echo "  $found could not make the environment (is its channel reached?)" >&2; return 1
  fi
  release
  satisfied "${run[@]}" python && runner=("${run[@]}" python)
}
# Is there room for it? A full disk is found after minutes otherwise, half the packages in. Nothing is said where df is not to be had.
room() {
  local free have=0 need=8 # .venv has 6, and pip unpacks beside it
  free=$(df -Pk "$here" 2>/dev/null | awk 'NR == 2 {print int($4 / 1048576)}') || return 0
  [ ! -d "$here/.venv" ] || have=$(du -sk "$here/.venv" 2>/dev/null | awk '{print int($1 / 1048576)}') || have=0
  [ -z "$free" ] || ((free + have >= need)) ||
    { echo "  $free GB are free in $here, and .venv needs $((need - have)) more while it is made; make room, or clone onto another disk" >&2; return 1; }
}
try_venv() {
  local python="" p venv="$here/.venv/bin/python"
  if [ -x "$venv" ] && [ "$(cat "$here/.venv/.lotto" 2>/dev/null)" = "$(digest "$venv")" ] && satisfied "$venv"; then runner=("$venv"); return 0; fi
  for p in python3.11 python3.12 python3.13 python3 python; do
    if command -v "$p" >/dev/null && "$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$p; break; fi
  done
  [ -n "$python" ] || { echo "  no Python >= 3.11 with venv on PATH; install one (python.org, or your system's python3-venv)" >&2; return 1; }
  room || return 1
  acquire
  if ! { [ -x "$venv" ] && [ "$(cat "$here/.venv/.lotto" 2>/dev/null)" = "$(digest "$venv")" ] && satisfied "$venv" 2>/dev/null; }; then
    echo "setting up .venv with $($python --version) (some minutes, about 6 GB)" >&2
    "$python" -m venv "$here/.venv" && { pins | grep -vx -- '-e \.'; printf -- '-e "%s"\n' "$here"; } >"$here/.venv/pins.txt" &&
      "$venv" -m pip install --quiet --disable-pip-version-check -r "$here/.venv/pins.txt" >&2 ||
      { release; echo "  pip could not install the pins of environment.yml (is a package index reached? is there space?)" >&2; return 1; }
    # also where PYTHONDONTWRITEBYTECODE is set: without bytecode every start costs seconds
    env -u PYTHONDONTWRITEBYTECODE "$venv" -m compileall -q -j 0 "$here/.venv/lib" "$here/lotto" >/dev/null 2>&1 || true
    digest "$venv" >"$here/.venv/.lotto"
  fi
  release
  satisfied "$venv" && runner=("$venv")
}

case "$want" in
  current) try_current || fail "the present environment will not do; run without --env current, or: pip install -r <(the pip list of environment.yml)" ;;
  conda) try_conda || fail "no conda environment could be made; run with --env venv" ;;
  venv) try_venv || fail "no .venv could be made; see above" ;;
  auto) try_current 2>/dev/null || { command -v micromamba mamba conda >/dev/null 2>&1 && try_conda; } || try_venv || fail "no environment could be made; see above" ;;
esac

case "$command" in
  run) exec "${runner[@]}" -m lotto.run ${rest[@]+"${rest[@]}"} ;;
  test) exec "${runner[@]}" -m lotto.run test ${rest[@]+"${rest[@]}"} ;;
  lab) exec "${runner[@]}" -m jupyterlab --ip=127.0.0.1 --ServerApp.root_dir="$here/notebooks" ${rest[@]+"${rest[@]}"} ;;
esac
