#!/usr/bin/env bash
# A Workq client in bash, over /dev/tcp.
#
#   client.sh add NAME PAYLOAD         prints the id of the new job
#   client.sh lease NAME SECONDS       prints the id of the job, then its payload
#   client.sh complete ID [RESULT]
#   client.sh fail ID [REASON]
#   client.sh result ID SECONDS        prints the result; exit status 5 if the job failed
#   client.sh delete ID
#   client.sh inspect WORDS...         prints the reply as it is
#
# WORKQ_HOST and WORKQ_PORT say where the server is. Exit statuses are those of workq: 1 error, 2 wrong usage,
# 3 not found, 4 timeout, 5 job failed.
set -euo pipefail
export LC_ALL=C # lengths are bytes

die() { # STATUS TEXT...
    local status=$1
    shift
    printf 'client.sh: %s\n' "$*" >&2
    exit "$status"
}

usage() {
    sed -n 's/^# \{0,1\}//; 4,10p' "$0" >&2
    exit 2
}

need() { # COUNT ARGUMENTS...
    local count=$1
    shift
    [ $# -ge "$count" ] || usage
}

connect() {
    local host=${WORKQ_HOST:-127.0.0.1} port=${WORKQ_PORT:-9922}
    # The group keeps bash's own complaint away.
    { exec 3<>"/dev/tcp/$host/$port"; } 2>/dev/null || die 1 "cannot connect to $host:$port"
}

# A line of a reply, without its CRLF, in $line.
read_line() {
    IFS= read -r line <&3 || die 1 "the server closed the connection; whether it did it is not known"
    line=${line%$'\r'}
}

# The first line of a reply; ends the program if it is not a success.
expect_ok() {
    read_line
    case $line in
        +OK*) ;;
        -TIMEOUT) die 4 'timeout' ;;
        -NOT-FOUND) die 3 'not found' ;;
        -CLIENT-ERROR\ * | -SERVER-ERROR\ *) die 1 "${line#* }" ;;
        *) die 1 "this is not a Workq server: $line" ;;
    esac
}

# As many bytes, whatever they are, and the line end behind them.
print_payload() {
    head -c "$1" <&3
    read_line
}

new_id() {
    if [ -r /proc/sys/kernel/random/uuid ]; then
        cat /proc/sys/kernel/random/uuid
    else
        uuidgen | tr 'A-F' 'a-f'
    fi
}

# A blank or a line end in a name or an id would make another request of it, and of the payload one more.
check_word() {
    [[ $1 =~ ^[A-Za-z0-9_.-]{1,255}$ ]] || die 2 "'$1' is not a name or an id"
}

milliseconds() {
    case $1 in
        '' | *[!0-9]*) die 2 "'$1' is not a whole number of seconds" ;;
    esac
    printf '%s' "$((10#$1 * 1000))"
}

[ $# -ge 1 ] || usage
command=$1
shift

case $command in
    add)
        need 2 "$@"
        check_word "$1"
        connect
        id=$(new_id)
        printf 'add %s %s 60000 86400000 %d\r\n%s\r\n' "$id" "$1" "${#2}" "$2" >&3
        expect_ok
        printf '%s\n' "$id"
        ;;
    lease)
        need 2 "$@"
        check_word "$1"
        wait_ms=$(milliseconds "$2")
        connect
        printf 'lease %s %d\r\n' "$1" "$wait_ms" >&3
        expect_ok
        read_line
        read -r id _ _ size <<<"$line"
        printf '%s\n' "$id"
        print_payload "$size"
        ;;
    complete | fail)
        need 1 "$@"
        check_word "$1"
        connect
        result=${2-}
        printf '%s %s %d\r\n%s\r\n' "$command" "$1" "${#result}" "$result" >&3
        expect_ok
        ;;
    result)
        need 2 "$@"
        check_word "$1"
        wait_ms=$(milliseconds "$2")
        connect
        printf 'result %s %d\r\n' "$1" "$wait_ms" >&3
        expect_ok
        read_line
        read -r _ success size <<<"$line"
        print_payload "$size"
        [ "$success" = 1 ] || exit 5
        ;;
    delete)
        need 1 "$@"
        check_word "$1"
        connect
        printf 'delete %s\r\n' "$1" >&3
        expect_ok
        ;;
    inspect)
        need 1 "$@"
        connect
        printf 'inspect %s\r\n' "$*" >&3
        expect_ok
        printf '%s\n' "$line"
        for ((objects = ${line#+OK }; objects > 0; objects--)); do
            read_line
            printf '%s\n' "$line"
            for ((keys = ${line##* }; keys > 0; keys--)); do
                read_line
                printf '%s\n' "$line"
                case $line in
                    payload-size\ *)
                        # The one value that may hold line ends: its length stands before it.
                        head -c 8 <&3
                        print_payload "${line#* }"
                        printf '\n'
                        ((keys--))
                        ;;
                esac
            done
        done
        ;;
    *) usage ;;
esac
