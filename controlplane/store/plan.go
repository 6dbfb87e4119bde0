package store

import (
	"context"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Plan is how a rollout spreads and where it stands, both as JSON that the
// store does not read.
type Plan struct {
	Rollout     int64
	Phase       string
	Plan, State []byte
}

// PutPlan adds or replaces the plan of a rollout.
func (t Tx) PutPlan(ctx context.Context, p Plan) error {
	if _, err := t.tx.ExecContext(ctx, `INSERT INTO plans VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET plan = excluded.plan, state = excluded.state`, p.Rollout, string(p.Plan), string(p.State)); err != nil {
		return mapError(err)
	}
	_, err := t.tx.ExecContext(ctx, `UPDATE rollouts SET phase = ? WHERE id = ? AND phase <> ?`, p.Phase, p.Rollout, p.Phase)
	return mapError(err)
}

// Plan returns the plan of a rollout.
func (t Tx) Plan(ctx context.Context, rollout int64) (Plan, error) {
	p := Plan{Rollout: rollout}
	err := t.tx.QueryRowContext(ctx, `SELECT r.phase, p.plan, p.state FROM plans p JOIN rollouts r ON r.id = p.rollout WHERE p.rollout = ?`, rollout).
		Scan(&p.Phase, &p.Plan, &p.State)
	return p, mapError(err)
}

// LivePlans returns the rollouts whose phase is one of the given, oldest first.
func (t Tx) LivePlans(ctx context.Context, ended ...string) ([]Rollout, error) {
	query, args := `SELECT `+rolloutColumns+` FROM rollouts WHERE phase <> ''`, []any{}
	for _, phase := range ended {
		query += ` AND phase <> ?`
		args = append(args, phase)
	}
	return collect(ctx, t.tx, scanRollout, query+` ORDER BY id`, args...)
}

// A Member is a device of a plan.
type Member struct {
	Rollout int64
	N       int
	Device  string
	Group   string
	Stage   int
	Role    string
	Judge   uint32
	Told    time.Time
	Boot    uint64
	Lost    string
	State   string
}

const memberColumns = `m.rollout, m.n, m.device, m.grp, m.stage, m.role, m.judge, m.told, m.boot, m.lost, m.state`

func (m *Member) into(told *int64) []any {
	return []any{&m.Rollout, &m.N, &m.Device, &m.Group, &m.Stage, &m.Role, &m.Judge, told, &m.Boot, &m.Lost, &m.State}
}

func scanMember(row scanner) (m Member, err error) {
	var told int64
	err = row.Scan(m.into(&told)...)
	m.Told = fromMillis(told)
	return m, mapError(err)
}

// AddMember adds a device to a plan, which waits.
func (t Tx) AddMember(ctx context.Context, m Member) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO members (rollout, n, device, grp, stage, state) VALUES (?, ?, ?, ?, ?, ?)`,
		m.Rollout, m.N, m.Device, m.Group, m.Stage, m.State)
	return mapError(err)
}

// NextMember returns the place after the last device of a plan.
func (t Tx) NextMember(ctx context.Context, rollout int64) (n int, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT coalesce(max(n) + 1, 0) FROM members WHERE rollout = ?`, rollout).Scan(&n)
	return n, mapError(err)
}

// Member returns a device of a plan.
func (t Tx) Member(ctx context.Context, rollout int64, device string) (Member, error) {
	return scanMember(t.tx.QueryRowContext(ctx, `SELECT `+memberColumns+` FROM members m WHERE m.device = ? AND m.rollout = ?`, device, rollout))
}

// MembersOf returns a device of all plans in which it is in a state, oldest first.
func (t Tx) MembersOf(ctx context.Context, device, state string) ([]Member, error) {
	return collect(ctx, t.tx, scanMember, `SELECT `+memberColumns+` FROM members m WHERE m.device = ? AND m.state = ? ORDER BY m.rollout`, device, state)
}

// SetMember stores what a device of a plan was told and how far it is, and that
// there is nothing to do about it.
func (t Tx) SetMember(ctx context.Context, m Member) error {
	_, err := t.tx.ExecContext(ctx, `UPDATE members SET role = ?, judge = ?, told = ?, boot = ?, lost = ?, state = ?, todo = 0 WHERE rollout = ? AND n = ?`,
		m.Role, m.Judge, millis(m.Told), m.Boot, m.Lost, m.State, m.Rollout, m.N)
	return mapError(err)
}

// SetMemberState stores how far a device of a plan is, and since when its silence
// counts.
func (t Tx) SetMemberState(ctx context.Context, m Member) error {
	_, err := t.tx.ExecContext(ctx, `UPDATE members SET state = ?, told = ? WHERE rollout = ? AND n = ?`, m.State, millis(m.Told), m.Rollout, m.N)
	return mapError(err)
}

// LoseMember records that a device of a plan failed by itself, which leaves
// something to do about it. false: there is no such device, or it failed before.
func (t Tx) LoseMember(ctx context.Context, rollout int64, device, why string) (bool, error) {
	r, err := t.tx.ExecContext(ctx, `UPDATE members SET lost = ?, todo = 1 WHERE device = ? AND rollout = ? AND lost = ''`, why, device, rollout)
	if err != nil {
		return false, mapError(err)
	}
	n, err := r.RowsAffected()
	return n > 0, mapError(err)
}

// MarkMembers leaves something to do about the devices from and below.
func (t Tx) MarkMembers(ctx context.Context, rollout int64, from, below int) error {
	_, err := t.tx.ExecContext(ctx, `UPDATE members SET todo = 1 WHERE rollout = ? AND n >= ? AND n < ?`, rollout, from, below)
	return mapError(err)
}

// MarkJudgedUntil leaves something to do about the devices that stop reporting pairs
// before a time.
func (t Tx) MarkJudgedUntil(ctx context.Context, rollout int64, model string, before time.Time) error {
	_, err := t.tx.ExecContext(ctx, `UPDATE members SET todo = 1 WHERE rollout = ? AND judge > 0
		AND EXISTS (SELECT 1 FROM trials t WHERE t.device = members.device AND t.model = ? AND t.rollout = members.rollout AND t.until < ?)`,
		rollout, model, millis(before))
	return mapError(err)
}

// MembersToDo returns up to limit devices about which there is something to do,
// of the oldest plan that has any.
func (t Tx) MembersToDo(ctx context.Context, limit int) ([]Member, error) {
	return collect(ctx, t.tx, scanMember, `SELECT `+memberColumns+` FROM members m INDEXED BY members_todo WHERE m.todo = 1
		ORDER BY m.rollout, m.n LIMIT ?`, limit)
}

// A Seat is a device of a plan with what is known of the device.
type Seat struct {
	Member
	Online bool
	Seen   time.Time // when anything came from it last
	Now    uint64    // its boot
	// Elsewhere is the older rollout, of another model, whose pairs its want asks for
	// instead; 0: none.
	Elsewhere int64
}

// Seats returns the devices of a plan from and below, in order.
func (t Tx) Seats(ctx context.Context, rollout int64, from, below int) ([]Seat, error) {
	return collect(ctx, t.tx, func(row scanner) (s Seat, err error) {
		var told, seen int64
		err = row.Scan(append(s.into(&told), &s.Online, &seen, &s.Now, &s.Elsewhere)...)
		s.Told, s.Seen = fromMillis(told), fromMillis(seen)
		return s, mapError(err)
	}, `SELECT `+memberColumns+`, d.online, d.seen, coalesce(d.boot, 0),
			(SELECT coalesce(min(t.rollout), 0) FROM trials t WHERE t.device = m.device AND t.judge > 0 AND t.rollout < m.rollout)
		FROM members m JOIN devices d ON d.id = m.device WHERE m.rollout = ? AND m.n >= ? AND m.n < ? ORDER BY m.n`, rollout, from, below)
}

// MembersIn returns up to limit devices of a plan below the given place that are in
// one of the states.
func (t Tx) MembersIn(ctx context.Context, rollout int64, below int, limit int, states ...string) ([]Member, error) {
	query, args := `SELECT `+memberColumns+` FROM members m WHERE m.rollout = ? AND m.n < ? AND m.state IN (''`, []any{rollout, below}
	for _, s := range states {
		query += `, ?`
		args = append(args, s)
	}
	return collect(ctx, t.tx, scanMember, query+`) ORDER BY m.n LIMIT ?`, append(args, limit)...)
}

// Vanished returns the devices of a plan below the given place that run its version
// and are not connected.
func (t Tx) Vanished(ctx context.Context, rollout int64, below int) ([]Member, error) {
	return collect(ctx, t.tx, scanMember, `SELECT `+memberColumns+` FROM members m JOIN devices d ON d.id = m.device
		WHERE m.rollout = ? AND m.n < ? AND m.state = 'active' AND m.lost = '' AND d.online = 0 ORDER BY m.n`, rollout, below)
}

// Presence returns how many devices of a plan there are from the given place,
// and how many of them are not connected.
func (t Tx) Presence(ctx context.Context, rollout int64, from int) (all, offline int, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT count(*), count(*) - coalesce(sum(d.online), 0) FROM members m JOIN devices d ON d.id = m.device
		WHERE m.rollout = ? AND m.n >= ?`, rollout, from).Scan(&all, &offline)
	return all, offline, mapError(err)
}

// A RestartedMember is a device of a plan, and how often it has started since it was
// told what to do.
type RestartedMember struct {
	Device string
	Starts uint64
}

// Restarted returns the devices of a plan below the given place that have started at
// least so often since they were told what to do.
func (t Tx) Restarted(ctx context.Context, rollout int64, below int, times int) ([]RestartedMember, error) {
	return collect(ctx, t.tx, func(row scanner) (m RestartedMember, err error) {
		return m, mapError(row.Scan(&m.Device, &m.Starts))
	}, `SELECT m.device, d.boot - m.boot FROM members m JOIN devices d ON d.id = m.device
		WHERE m.rollout = ? AND m.n < ? AND m.role = 'active' AND d.boot - m.boot >= ?`, rollout, below, times)
}

// A MemberCount is how many devices that get the version in a stage are in a
// state.
type MemberCount struct {
	Stage int
	State string
	N     int
}

// MemberCounts returns how far the devices of a plan are.
func (t Tx) MemberCounts(ctx context.Context, rollout int64) ([]MemberCount, error) {
	return collect(ctx, t.tx, func(row scanner) (c MemberCount, err error) {
		return c, mapError(row.Scan(&c.Stage, &c.State, &c.N))
	}, `SELECT stage, state, n FROM member_counts WHERE rollout = ? AND n > 0 ORDER BY stage, state`, rollout)
}

// SharesDevice reports whether two plans have a device in common.
func (t Tx) SharesDevice(ctx context.Context, a, b int64) (shares bool, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM members x JOIN members y ON y.device = x.device AND y.rollout = ? WHERE x.rollout = ?)`, b, a).Scan(&shares)
	return shares, mapError(err)
}

// A Trial is what the want of a device says about one model, beside the version
// that it runs.
type Trial struct {
	Device, Model string
	Rollout       int64
	Shadow        protocol.Digest // zero: none
	Judge         uint32          // 0: it reports no pairs
	EveryS        uint32
	Until         time.Time
	JitterS       uint32
	Window        string // "": none
}

// PutTrial adds or replaces the trial of (device, model).
func (t Tx) PutTrial(ctx context.Context, r Trial) error {
	_, err := t.tx.ExecContext(ctx, `INSERT OR REPLACE INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.Device, r.Model, r.Rollout, digestArg(r.Shadow), r.Judge, r.EveryS, millis(r.Until), r.JitterS, r.Window)
	return mapError(err)
}

// DropTrial ends the trial of (device, model).
func (t Tx) DropTrial(ctx context.Context, device, model string) error {
	_, err := t.tx.ExecContext(ctx, `DELETE FROM trials WHERE device = ? AND model = ?`, device, model)
	return mapError(err)
}

// TrialsIn returns the trials of the given devices, in any order.
func (t Tx) TrialsIn(ctx context.Context, devices []string) ([]Trial, error) {
	return collectOf(ctx, t.tx, func(row scanner) (r Trial, err error) {
		var shadow []byte
		var until int64
		if err := row.Scan(&r.Device, &r.Model, &r.Rollout, &shadow, &r.Judge, &r.EveryS, &until, &r.JitterS, &r.Window); err != nil {
			return r, mapError(err)
		}
		r.Until = fromMillis(until)
		r.Shadow, err = scanDigest(shadow)
		return r, err
	}, `SELECT device, model, rollout, shadow, judge, every_s, until, jitter_s, win FROM trials WHERE device IN `, devices)
}

// A Pairs row is the report of one start of a device that says most, as it came.
type Pairs struct {
	Judge  uint32
	Device string
	Boot   uint32
	Heard  time.Time
	Report []byte
}

func scanPairs(row scanner) (p Pairs, err error) {
	var heard int64
	err = row.Scan(&p.Judge, &p.Device, &p.Boot, &heard, &p.Report)
	p.Heard = fromMillis(heard)
	return p, mapError(err)
}

// PutPairs adds or replaces the report of (judge, device, boot).
func (t Tx) PutPairs(ctx context.Context, p Pairs) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO pairs VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET heard = excluded.heard, report = excluded.report`, p.Judge, p.Device, p.Boot, millis(p.Heard), p.Report)
	return mapError(err)
}

// PairsOf returns the reports of a device under a number, by its starts.
func (t Tx) PairsOf(ctx context.Context, judge uint32, device string) ([]Pairs, error) {
	return collect(ctx, t.tx, scanPairs, `SELECT judge, device, boot, heard, report FROM pairs WHERE judge = ? AND device = ? ORDER BY boot`, judge, device)
}

// Pairs returns all reports under a number.
func (t Tx) Pairs(ctx context.Context, judge uint32) ([]Pairs, error) {
	return collect(ctx, t.tx, scanPairs, `SELECT judge, device, boot, heard, report FROM pairs WHERE judge = ?`, judge)
}

// DropPairs forgets the reports of numbers from and below.
func (t Tx) DropPairs(ctx context.Context, from, below uint32) error {
	_, err := t.tx.ExecContext(ctx, `DELETE FROM pairs WHERE judge >= ? AND judge < ?`, from, below)
	return mapError(err)
}

// A Look is the record of one look, as JSON.
type Look struct {
	Rollout int64
	Look    int
	At      time.Time
	Record  []byte
}

// PutLook adds a look.
func (t Tx) PutLook(ctx context.Context, l Look) error {
	_, err := t.tx.ExecContext(ctx, `INSERT OR REPLACE INTO looks VALUES (?, ?, ?, ?)`, l.Rollout, l.Look, millis(l.At), string(l.Record))
	return mapError(err)
}

// Looks returns up to limit looks of a rollout, after the given one.
func (t Tx) Looks(ctx context.Context, rollout int64, after, limit int) ([]Look, error) {
	return collect(ctx, t.tx, func(row scanner) (l Look, err error) {
		var at int64
		err = row.Scan(&l.Rollout, &l.Look, &at, &l.Record)
		l.At = fromMillis(at)
		return l, mapError(err)
	}, `SELECT rollout, look, at, record FROM looks WHERE rollout = ? AND look > ? ORDER BY look LIMIT ?`, rollout, after, limit)
}
