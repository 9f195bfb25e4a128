#!/usr/bin/env bash
# The Pythons of this machine that model_serving runs on: those that pyproject.toml classifies it for.
#   python.sh venv DIRECTORY [PYTHON]  make the environment, unless there is one that can be used
#   python.sh list                     one line for each version that is found: the version, a space, its program
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t SUPPORTED < <(sed -nE 's/.*"Programming Language :: Python :: (3\.[0-9]+)".*/\1/p' pyproject.toml)

# What a program is, such as "CPython 3.12.1". It fails if that cannot be run.
version() {
    "$1" -c 'import platform; print(platform.python_implementation() + " " + platform.python_version())' 2>/dev/null
}

# The supported version that a program has, such as 3.12.
supported() {
    local minor found
    found=$(version "$1") || return 1
    for minor in "${SUPPORTED[@]}"; do
        if [[ $found == "CPython $minor."* ]]; then
            echo "$minor"
            return
        fi
    done
    return 1
}

# Two programs with the same origin make the same environments.
origin() {
    "$1" -c 'import sys; print(sys.version_info[:2], sys.base_prefix)' 2>/dev/null
}

# Whether DIRECTORY has what PYTHON would make. An environment that was interrupted has no pip, or is not finished.
usable() {
    local program="$1/bin/python" asked=$2
    supported "$program" >/dev/null || return 1
    [[ -e $1/.installed ]] || "$program" -c 'import pip' 2>/dev/null || return 1
    [[ -z $asked || $(origin "$asked") == "$(origin "$program")" ]]
}

# The first program that is supported; python3, if none is.
found() {
    local program
    for program in python3 "${SUPPORTED[@]/#/python}"; do
        if supported "$program" >/dev/null; then
            echo "$program"
            return
        fi
    done
    echo python3
}

refuse() {
    local versions is
    versions="$(printf '%s, ' "${SUPPORTED[@]:0:${#SUPPORTED[@]}-1}")"
    if is=$(version "$1"); then is="is ${is#CPython }"; else is="cannot be run"; fi
    echo "model_serving needs Python ${versions%, } or ${SUPPORTED[-1]}, and $1 $is:" \
        "make PYTHON=/path/to/python${SUPPORTED[-1]} …" >&2
    exit 2
}

venv() {
    local directory=$1 asked=${2:-} python clear=()
    asked=${asked/#\~\//$HOME/} # not every shell replaces it after PYTHON=
    if usable "$directory" "$asked"; then
        return
    fi
    python=${asked:-$(found)}
    supported "$python" >/dev/null || refuse "$python"
    # Only an environment is emptied.
    if [[ -e $directory/pyvenv.cfg ]]; then
        echo "$directory is made anew: it cannot be used, or is of another Python than $python" >&2
        clear=(--clear)
    fi
    "$python" -m venv "${clear[@]}" "$directory"
}

list() {
    local minor program
    for minor in "${SUPPORTED[@]}"; do
        for program in "python$minor" "$HOME/.pyenv/versions/$minor".*/bin/python; do
            if [[ $(supported "$program") == "$minor" ]]; then
                echo "$minor $program"
                break
            fi
        done
    done
}

"$@"
