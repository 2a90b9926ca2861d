package consign

import "container/list"

// waiter is a blocked claim: one free slot of a worker.
type waiter struct {
	call   *call
	worker *worker
	claim  ClaimID
	places []waiterPlace

	abandoned bool
}

type waiterPlace struct {
	list *list.List
	el   *list.Element
	warm string // the model that it is for; "": it is worker.waits or class.waiting
}

// blocked are the worker's blocked claims, longest first.
func (w *worker) blocked() []*waiter {
	all := make([]*waiter, 0, w.waits.Len())
	for el := w.waits.Front(); el != nil; el = el.Next() {
		all = append(all, el.Value.(*waiter))
	}
	return all
}

// wait blocks a claim until a ticket comes for it.
func (m *matcher) wait(wt *waiter) {
	w := wt.worker
	wt.places = make([]waiterPlace, 0, 2+len(w.Warm))
	add := func(l *list.List, warm string) { wt.places = append(wt.places, waiterPlace{l, l.PushBack(wt), warm}) }
	add(&w.waits, "")
	add(w.class.waiting, "")
	for _, r := range w.Warm {
		l := w.class.warm[r.Model]
		if l == nil {
			l = list.New()
			w.class.warm[r.Model] = l
		}
		add(l, r.Model)
	}
}

func (m *matcher) unwait(wt *waiter) {
	for _, p := range wt.places {
		p.list.Remove(p.el)
		if p.list.Len() == 0 && p.warm != "" {
			delete(wt.worker.class.warm, p.warm)
		}
	}
	wt.places = nil
}

// rewait files the worker's blocked claims anew after its warm models changed.
func (m *matcher) rewait(w *worker) {
	for _, wt := range w.blocked() {
		m.unwait(wt)
		m.wait(wt)
	}
}
