# Completion of ovs-vhost(8) for bash.
#
# Copyright (c) 2026 The ovs-vhostuser Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at:
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

# Commands and options come from --help, so that they are always those of the
# program; ports come from the switch.

# The names of the commands.
_ovs_vhost_commands() {
    "$1" --help 2> /dev/null |
        sed -n '/^commands:/,/^$/s/^  \([a-z][a-z]*\) .*/\1/p'
}

# The long options of command $2; those with an argument end in "=".
_ovs_vhost_options() {
    "$1" "$2" --help 2> /dev/null |
        sed -n '/^options:/,$p' | grep -oE -- '^ +(-.*, )?--[a-z-]+=?' |
        grep -oE -- '--[a-z-]+=?'
}

# The ports of the switch that the words so far name.
_ovs_vhost_ports() {
    local target=ovs-vswitchd i

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -t) target=${COMP_WORDS[i + 1]} ;;
        --target)
            if [ "${COMP_WORDS[i + 1]}" = "=" ]; then
                target=${COMP_WORDS[i + 2]}
            else
                target=${COMP_WORDS[i + 1]}
            fi ;;
        esac
    done
    ovs-appctl -t "$target" vhostuser/show --json 2> /dev/null |
        sed -n 's/^ *"name": "\(.*\)",*$/\1/p'
}

# Completes file names that begin with $1.
_ovs_vhost_files() {
    compopt -o filenames 2> /dev/null
    COMPREPLY+=($(compgen -f -- "$1"))
}

_ovs_vhost() {
    local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]}
    local previous=${COMP_WORDS[COMP_CWORD - 1]} command= i

    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -*) ;;
        *) command=${COMP_WORDS[i]}; break ;;
        esac
    done
    if [ ! "$command" ]; then
        COMPREPLY=($(compgen -W "$(_ovs_vhost_commands "$program")
                                 --help --version" -- "$word"))
        return
    fi

    # "--option=WORD" is three words.
    if [ "$previous" = "=" ]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    elif [ "$word" = "=" ]; then
        previous=${COMP_WORDS[COMP_CWORD - 1]}
        word=
    elif [[ $previous == --* ]]; then
        previous=
    fi
    case $previous in
    -t|--target|--png) _ovs_vhost_files "$word"; return ;;
    -i|-n|--*) return ;;
    esac

    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$(_ovs_vhost_options "$program" "$command")" \
                             -- "$word"))
        if [ "${#COMPREPLY[@]}" = 1 ] && [[ ${COMPREPLY[0]} == *= ]]; then
            compopt -o nospace 2> /dev/null
        fi
        return
    fi
    case $command in
    trace|top)
        COMPREPLY=($(compgen -W "$(_ovs_vhost_ports)" -- "$word")) ;;
    *)
        _ovs_vhost_files "$word" ;;
    esac
}

complete -F _ovs_vhost ovs-vhost
