package queuetest

import (
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
)

// other is a fault that another queue shipped, and that a store could bring
// back. Those that only a rule or a transport could are tested where these are.
type other struct {
	name string
	play func(s *stand) error // nil: the fault is not there
	// plant brings it back, on whatever store: a case that cannot fail shows
	// nothing.
	plant func(s consign.Store) consign.Store
}

var others = []other{
	{"River1302_ReaperLosesToACompletion", reaperLoses, overwriting},
	{"River1318_StuckExpiriesStarveNobody", stuckExpiries, fewDue},
	{"River1318_StuckLeasesStarveNobody", stuckLeases, fewDue},
	{"River1287_1125_1331_ZeroTimes", zeroTimes, sinceEpoch},
	{"River1324_UndecodableLane", undecodableLane, stopping},
	{"River1324_PoisonTicket", poisonTicket, aborted},
	{"River1324_UnreadableJobsStarveNobody", unreadableJobs, fewDue},
	{"River199_217_SleeperHasLostItsLeases", sleeper, overwriting},
	{"River_CancelReachesTheWorkerOfAnotherCoordinator", cancelElsewhere, assuring},
	{"River_CancelDuringTheClaim", cancelDuringClaim, overwriting},
	{"NATS4786_LateCompletionOfAnothersClaim", lateCompletion, anyClaim},
	{"NATS212_CommittedBeforeAnswered", committedFirst, early},
	{"Bull1416_StaleOwnerFails", staleOwner, anyClaim},
	{"Silo399_HeartbeatOvertakesCompletion", overtakingHeartbeat, claimless},
	{"Goqite_DelayedJobComesAtItsTime", delayedJob, hasty},
	{"Hatchet1796_HeartbeatsWithoutWork", deafWorker, blinded},
	{"Hatchet2604_HeartbeatsAreGathered", manyHeartbeats, fewRenewed},
	{"Bacalhau3861_4114_SkyPilot7117_ResultAfterAReconnect", afterAReconnect, forgetful},
	{"BOINC1005_InvalidResultIsNoSuccess", invalidResult, lenient},
}

// Others plays faults that other queues shipped, on a queue of its own each:
// none of them is there.
func (s Suite) Others(t *testing.T) {
	atOnce := make(chan bool, 1)
	if s.RealTime {
		atOnce = make(chan bool, 6) // they wait, mostly
	}
	var group sync.WaitGroup
	for _, o := range others {
		atOnce <- true
		group.Go(func() {
			defer func() { <-atOnce }()
			t.Run(o.name, func(t *testing.T) {
				s.run(t, func(t *testing.T) {
					if err := s.playOther(t, o, nil); err != nil {
						t.Error(err)
					}
				})
			})
		})
	}
	group.Wait()
}

// OthersMutants plays them with each fault brought back until it is seen: one
// that is a race is not seen in every play.
func (s Suite) OthersMutants(t *testing.T) {
	for _, o := range others {
		t.Run(o.name, func(t *testing.T) {
			var seen error
			for play := 0; play < 10 && seen == nil; play++ {
				s.run(t, func(t *testing.T) {
					seen = s.playOther(t, o, o.plant)
					time.Sleep(time.Minute) // until what is answered is committed
				})
			}
			if seen == nil {
				t.Error("it is not seen")
			} else {
				t.Log(seen)
			}
		})
	}
}

func (s Suite) playOther(t *testing.T, o other, plant func(consign.Store) consign.Store) error {
	st := newStand(t, s, plant)
	defer st.end()
	return o.play(st)
}

// Others returns the names of the faults that Suite.Others plays.
func Others() (names []string) {
	for _, o := range others {
		names = append(names, o.name)
	}
	return names
}
