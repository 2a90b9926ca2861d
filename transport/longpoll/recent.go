package longpoll

import (
	"slices"
	"time"
)

const (
	recentFor = time.Minute
	maxRecent = 4096
)

// recent remembers something about names for a minute: longer than a request is
// under way, which may come, or come again, after it is over. It knows the
// latest 4,096. A name that it does not know has the zero V.
type recent[V comparable] struct {
	values map[string]V
	names  []recentName // in the order in which they came
}

type recentName struct {
	name string
	at   time.Time
}

func (r *recent[V]) get(name string) V { return r.values[name] }

// add remembers a name, unless it is known. Whatever is known costs the same
// time: it drops at most two of those that are too old.
func (r *recent[V]) add(name string, v V, now time.Time) {
	var unknown V
	if r.values == nil {
		r.values = map[string]V{}
	}
	if r.values[name] != unknown {
		return
	}
	for range 2 {
		if n := len(r.names); n > 0 && (n == maxRecent || now.Sub(r.names[0].at) > recentFor) {
			delete(r.values, r.names[0].name)
			r.names[0] = recentName{}
			r.names = r.names[1:]
		}
	}
	r.values[name] = v
	r.names = append(r.names, recentName{name, now})
}

// drop forgets a name, which came lately.
func (r *recent[V]) drop(name string) {
	delete(r.values, name)
	for i := len(r.names) - 1; i >= 0; i-- {
		if r.names[i].name == name {
			r.names = slices.Delete(r.names, i, i+1)
			return
		}
	}
}
