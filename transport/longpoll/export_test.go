package longpoll

import "github.com/consignq/consign"

// WaitingResults is how many results of a session wait for the next request.
func WaitingResults(s consign.Session) int {
	q := &s.(*remoteSession).results
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}
