#!/bin/sh
# The gateway beside nginx as a plain reverse proxy (Debian's package), in turns, in one run. NGINX_BIN names the program.
set -eu
cd "$(dirname "$0")/.."
nginx=${NGINX_BIN:-$(command -v nginx || true)}
folder=$(mktemp -d)
upstream=127.0.0.1:18181
if [ -n "$nginx" ]; then
    cat > "$folder/nginx.conf" <<EOF
daemon off; master_process on; worker_processes auto; pid $folder/pid; error_log $folder/error;
events { worker_connections 4096; }
http {
    access_log off; keepalive_requests 10000000;
    client_body_temp_path $folder/a; proxy_temp_path $folder/b; fastcgi_temp_path $folder/c; uwsgi_temp_path $folder/d; scgi_temp_path $folder/e;
    upstream up { server $upstream; keepalive 64; keepalive_requests 10000000; }
    server { listen 127.0.0.1:18182; location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering on; proxy_max_temp_file_size 0; } }
}
EOF
    "$nginx" -c "$folder/nginx.conf" -p "$folder" -e "$folder/error" &
    pid=$!
    trap 'kill "$pid"; wait "$pid" || true; rm -rf "$folder"' EXIT INT TERM
    export NGINX=127.0.0.1:18182
else
    trap 'rm -rf "$folder"' EXIT INT TERM
    echo "there is no nginx here: only the gateway is measured" >&2
fi
UPSTREAM=$upstream cargo bench --bench gateway
