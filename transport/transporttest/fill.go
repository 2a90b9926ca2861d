package transporttest

import (
	"bytes"
	"fmt"
	"reflect"
	"time"

	"github.com/consignq/consign"
)

// fill sets every field in v, however deep, to a value of its own, so that a
// field that a transport forgets is missed, also one that was added after this
// was written. It returns v.
func fill[T any](v *T) *T {
	n := 0
	fillValue(reflect.ValueOf(v).Elem(), &n)
	return v
}

func filled[T any]() T {
	var v T
	return *fill(&v)
}

// Values that a transport may check have to be possible ones.
var possible = map[reflect.Type]any{
	reflect.TypeFor[time.Time]():            time.UnixMicro(1_700_000_000_123_456).UTC(),
	reflect.TypeFor[consign.Custody]():      consign.CustodyEscrow,
	reflect.TypeFor[consign.Tier]():         consign.Tier(3),
	reflect.TypeFor[consign.Policy]():       consign.PolicyCheap,
	reflect.TypeFor[consign.Priority]():     consign.PriorityLow,
	reflect.TypeFor[consign.Privacy]():      consign.PrivacyPrivate,
	reflect.TypeFor[consign.State]():        consign.StateRunning,
	reflect.TypeFor[consign.EventKind]():    consign.EventReport,
	reflect.TypeFor[consign.FailKind]():     consign.FailPayload,
	reflect.TypeFor[consign.ReportKind]():   consign.ReportPart,
	reflect.TypeFor[consign.Verification](): consign.VerificationVerified,
	reflect.TypeFor[consign.Instant]():      consign.Instant(1_700_000_000_123_456),
	// A receipt has this or a record.
	reflect.TypeFor[*consign.ForeignReceipt](): (*consign.ForeignReceipt)(nil),
}

func fillValue(v reflect.Value, n *int) {
	*n++
	if p, ok := possible[v.Type()]; ok {
		v.Set(reflect.ValueOf(p))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillValue(v.Field(i), n)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range 3 {
			fillValue(v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fillValue(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fillValue(key, n)
			fillValue(value, n)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text \"%d\" ü", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32:
		v.SetInt(int64(*n % 100))
	case reflect.Int64:
		if v.Type() == reflect.TypeFor[time.Duration]() {
			v.SetInt(int64(time.Duration(*n) * time.Second))
			return
		}
		v.SetInt(1<<52 + int64(*n)) // does not fit a float64's integers by much
	case reflect.Uint8:
		v.SetUint(uint64(*n%250) + 1)
	case reflect.Uint, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(*n))
	case reflect.Uint64:
		v.SetUint(1<<63 - 1 - uint64(*n)) // needs all of an int64
	case reflect.Float64, reflect.Float32:
		v.SetFloat(float64(*n) + 0.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(v.Elem(), n)
	default:
		panic(fmt.Sprintf("transporttest: fill does not know %s", v.Type()))
	}
}

// same says which field of got differs from want, where an empty slice or map
// is as good as none.
func same(what string, got, want any) error {
	return differ(what, reflect.ValueOf(got), reflect.ValueOf(want))
}

func differ(path string, got, want reflect.Value) error {
	unequal := func() error { return fmt.Errorf("%s became %.200v, was %.200v", path, got, want) }
	if t, ok := want.Interface().(time.Time); ok {
		if !t.Equal(got.Interface().(time.Time)) {
			return unequal()
		}
		return nil
	}
	switch want.Kind() {
	case reflect.Struct:
		for i := range want.NumField() {
			if f := want.Type().Field(i); f.IsExported() {
				if err := differ(path+"."+f.Name, got.Field(i), want.Field(i)); err != nil {
					return err
				}
			}
		}
	case reflect.Slice:
		if want.Type().Elem().Kind() == reflect.Uint8 {
			if !bytes.Equal(got.Bytes(), want.Bytes()) {
				return fmt.Errorf("%s: %d bytes became %d other ones", path, want.Len(), got.Len())
			}
			return nil
		}
		if got.Len() != want.Len() {
			return unequal()
		}
		for i := range want.Len() {
			if err := differ(fmt.Sprintf("%s[%d]", path, i), got.Index(i), want.Index(i)); err != nil {
				return err
			}
		}
	default:
		if want.Kind() == reflect.Map && got.Len()+want.Len() == 0 {
			return nil
		}
		if !reflect.DeepEqual(got.Interface(), want.Interface()) {
			return unequal()
		}
	}
	return nil
}
