#!/usr/bin/env bash
# What the tests need of the public image's entry point: a database made from POSTGRES_USER, POSTGRES_PASSWORD,
# POSTGRES_DB, POSTGRES_INITDB_ARGS and POSTGRES_HOST_AUTH_METHOD (the first four also as a file, NAME_FILE), and from
# /docker-entrypoint-initdb.d/*.{sh,sql}, if PGDATA is empty; then the server. As root it steps down to user postgres.
set -Eeuo pipefail

from_file() { # NAME DEFAULT: NAME, or what stands in the file NAME_FILE, or DEFAULT
  local name=$1 file=${1}_FILE
  if [[ -n ${!name:-} && -n ${!file:-} ]]; then
    echo >&2 "error: $name and $file are both set, and are exclusive"
    exit 1
  fi
  if [[ -n ${!file:-} ]]; then printf -v "$name" '%s' "$(<"${!file}")"; else printf -v "$name" '%s' "${!name:-$2}"; fi
  export "${name?}"
  unset "$file"
}

initialise() {
  from_file POSTGRES_PASSWORD ''
  from_file POSTGRES_USER postgres
  from_file POSTGRES_DB "$POSTGRES_USER"
  from_file POSTGRES_INITDB_ARGS ''
  local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256} file
  if [[ -z $POSTGRES_PASSWORD && $method != trust ]]; then
    echo >&2 'error: the database is new and POSTGRES_PASSWORD is not set'
    exit 1
  fi
  eval "initdb --username=\"\$POSTGRES_USER\" --pwfile=<(printf '%s\n' \"\$POSTGRES_PASSWORD\") $POSTGRES_INITDB_ARGS"
  printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
  # no listening on the network while it is being made: a readiness probe must not take it for the real one
  pg_ctl -D "$PGDATA" -w start -o "-c listen_addresses='' -p ${PGPORT:-5432}"
  local sql=(psql -v ON_ERROR_STOP=1 --no-psqlrc --username="$POSTGRES_USER")
  if [[ $POSTGRES_DB != postgres ]]; then
    "${sql[@]}" --dbname=postgres --set=db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db";'
  fi
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sh) bash "$file" ;;
      *.sql) "${sql[@]}" --dbname="$POSTGRES_DB" --file="$file" ;;
    esac
  done
  pg_ctl -D "$PGDATA" -m fast -w stop
}

if [[ ${1:-} == -* ]]; then set -- postgres "$@"; fi
if [[ $1 == postgres ]]; then
  mkdir -p "$PGDATA"
  chmod 0700 "$PGDATA" || true
  if [[ $(id -u) == 0 ]]; then
    chown -R postgres:postgres "$PGDATA" /var/run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
  fi
  if [[ ! -s $PGDATA/PG_VERSION ]]; then initialise; fi
fi
exec "$@"
