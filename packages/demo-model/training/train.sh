#!/bin/sh
# Makes the demo model: three teachers side by side on one GPU, then the small model that learns from them and the text.
#   sh train.sh DATA OUT     DATA: the folder that `node prepare.mjs --addresses DATA` filled; OUT: a folder to fill
# Then copy OUT/student/model to ../model and OUT/student/loss.csv here, and run evaluate.py and plot.py.
set -eu
here=$(dirname "$0")
data=$1
out=$2
mkdir -p "$out"
common="--data $data --auxiliary --auxiliary-hold 0.6 --steps 1400"
wide="--width 320 --layers 8 --heads 5 --kv-heads 5 --head-width 64 --ffn 864 --rate 2e-3 --dropout 0.35"
deep="--width 256 --layers 12 --heads 4 --kv-heads 4 --head-width 64 --ffn 704 --rate 2.5e-3 --dropout 0.3"

# shellcheck disable=SC2086 # the variables hold several arguments
teach() {
  name=$1
  shift
  python3 "$here/train.py" --out "$out/$name" $common --weight-decay 1.0 "$@" >"$out/$name.log" 2>&1
}

teach teacher1 --seed 1 $wide &
first=$!
teach teacher2 --seed 2 $wide &
second=$!
teach teacher3 --seed 3 $deep &
third=$!
wait $first
wait $second
wait $third

# shellcheck disable=SC2086
python3 "$here/train.py" --out "$out/student" $common --seed 0 --export \
  --width 128 --layers 16 --heads 4 --kv-heads 2 --head-width 32 --ffn 352 --rate 4e-3 --dropout 0.1 --weight-decay 0.6 \
  --teacher "$out/teacher1/weights.pt" --teacher "$out/teacher2/weights.pt" --teacher "$out/teacher3/weights.pt" \
  --teacher-weight 0.5
