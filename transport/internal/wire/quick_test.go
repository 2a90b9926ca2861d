package wire

import (
	"bytes"
	"encoding/hex"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/consignq/consign"
)

// everyJob are the frames of every job, empty.
func everyJob() []any { return []any{&Frame{}, &AssignFrame{}, &TakenFrame{}, &CompleteFrame{}} }

// draw sets every field in v to something, often to nothing.
func draw(t *rapid.T, v reflect.Value) {
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			draw(t, v.Field(i))
		}
		return
	}
	if rapid.IntRange(0, 3).Draw(t, "empty") == 0 {
		return
	}
	lengths := rapid.SampledFrom([]int{0, 1, 31, 32, 255, 256, 65535, 65536})
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		draw(t, v.Elem())
	case reflect.String:
		v.SetString(string(bytes.Repeat([]byte{'x'}, lengths.Draw(t, "length"))))
	case reflect.Slice:
		v.SetBytes(bytes.Repeat([]byte{0xc1}, lengths.Draw(t, "length")))
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(rapid.Byte().Draw(t, "byte")))
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(uint64(rapid.IntRange(0, 3).Draw(t, "small"))) // a policy beyond has no form
		if _, word := v.Interface().(Policy); !word {
			v.SetUint(uint64(rapid.Byte().Draw(t, "byte")))
		}
	case reflect.Uint32, reflect.Uint64:
		most := uint64(math.MaxUint64) >> (64 - v.Type().Bits())
		bound := uint64(1) << rapid.SampledFrom([]int{0, 7, 8, 16, 32, 63}).Draw(t, "bits")
		v.SetUint(min(most, bound-rapid.Uint64Range(0, 1).Draw(t, "below")))
	case reflect.Int32, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "number") >> (64 - v.Type().Bits() + rapid.IntRange(0, v.Type().Bits()-1).Draw(t, "bits")))
	default:
		t.Fatalf("draw does not know %s", v.Type())
	}
}

// A frame of every job has the bytes that the encoder for all types gives it,
// and is read from them without the decoder for all types.
func TestQuickFramesAreTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frame := rapid.SampledFrom(everyJob()).Draw(t, "frame")
		draw(t, reflect.ValueOf(frame).Elem())
		quick, err := Msgpack.Encode(frame)
		plain, wrong := Msgpack.encode(frame)
		if !bytes.Equal(quick, plain) || (err == nil) != (wrong == nil) {
			t.Fatalf("%+v is\n%x, %v, and by the encoder for all types\n%x, %v", frame, quick, err, plain, wrong)
		}
		if err != nil {
			return
		}
		got := reflect.New(reflect.TypeOf(frame).Elem())
		if _, isQuick := encodeQuick(frame); decodeQuick(quick, got.Interface()) != isQuick {
			t.Fatalf("%x is written quickly: %t, and read the other way", quick, isQuick)
		} else if isQuick && !alike(got.Elem(), reflect.ValueOf(frame).Elem()) {
			t.Fatalf("%+v became %+v", frame, got)
		}
	})
}

// Of ordinary jobs none is left to the encoder for all types.
func TestQuickFramesAreUsual(t *testing.T) {
	for _, frame := range everyJob() {
		n := 0
		v := reflect.ValueOf(frame).Elem()
		fill(v, &n)
		if c, ok := frame.(*CompleteFrame); ok {
			c.Comparison, c.ExitStatus = nil, 1
		}
		data, ok := encodeQuick(frame)
		if !ok || !decodeQuick(data, frame) {
			t.Errorf("%T is not written quickly, or not read", frame)
		}
	}
	if _, ok := encodeQuick(&HeartbeatFrame{}); ok {
		t.Error("a heartbeat is written as the frame that it begins with")
	}
}

// FuzzQuick: what is read quickly is what the decoder for all types reads.
func FuzzQuick(f *testing.F) {
	n := 0
	full := everyJob()
	for _, frame := range full {
		fill(reflect.ValueOf(frame).Elem(), &n)
	}
	for i, frame := range append(full, everyJob()...) {
		data, err := Msgpack.Encode(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), data)
	}
	for i, texts := range [][]string{
		{"82a474797065a361636ba26964cd0005", "81a474797065c403616263", "82a474797065a0a26964ff", "81a474797065a161c0", "de0001a474797065a161", "81a474797065d9", "8080", "82a474797065a161"},
		{"81a474696572cd01ff", "81a86c656173655f6e73cfffffffffffffffff", "81a77061796c6f6164c0", "81a87265636569707473c2"},
		{"81a66a6f625f6964c40178", "81a66a6f625f6964c0"},
		{"81ab657869745f737461747573ce80000000", "81a6726573756c74a161", "81a6726573756c74c402ff"},
	} {
		for _, text := range texts {
			data, err := hex.DecodeString(text)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), data)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		i := int(kind) % len(full)
		quick, plain, both := everyJob()[i], everyJob()[i], everyJob()[i]
		passing := bytes.Clone(data)
		ok := decodeQuick(passing, quick)
		clear(passing) // the next message takes its place
		err := decodeMsgpack(data, plain, true, true)
		if ok && (err != nil || !reflect.DeepEqual(quick, plain)) {
			t.Errorf("%x is read as %+v, and by the decoder for all types as %+v, %v", data, quick, plain, err)
		}
		if err == nil && (Msgpack.Decode(data, both) != nil || !reflect.DeepEqual(both, plain)) {
			t.Errorf("%x is read as %+v, and by the decoder for all types as %+v", data, both, plain)
		}
	})
}

func BenchmarkFrames(b *testing.B) {
	assign := &AssignFrame{Frame: Frame{FrameAssign, 1000}, Assignment: Assignment{Queue: consign.QueueID{1}, Job: consign.JobID{1}, Claim: consign.ClaimID{1},
		Kind: consign.KindTask, Policy: 1, Tier: 1, Payload: make([]byte, 64), Custody: consign.CustodyPlain, Comparator: "none", Lease: 30e9, Limit: 30e9}}
	for name, encode := range map[string]func(any) ([]byte, error){"quick": Msgpack.Encode, "all": Msgpack.encode} {
		b.Run("encode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = encode(assign)
			}
		})
	}
	data, _ := Msgpack.Encode(assign)
	for name, decode := range map[string]func([]byte, any) error{"quick": Msgpack.Decode, "all": func(data []byte, v any) error { return decodeMsgpack(data, v, true, true) }} {
		b.Run("decode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = decode(data, new(AssignFrame))
			}
		})
	}
}
