//! Pages: whole, in order, both ways, and only of what was asked for.

use std::future::Future;

use agent_threads::{
    Direction, Error, ItemRecord, ListQuery, Page, PageQuery, SortKey, Thread, ThreadId, ThreadStore,
    ThreadUpdate, TurnId, TurnRecords,
};

use crate::{
    fixture::{Place, answer, ended, no_update, owner, settings, started, tenant, thread, turn},
    suite::created,
};

const WAYS: [Direction; 2] = [Direction::Ascending, Direction::Descending];

fn other(direction: Direction) -> Direction {
    match direction {
        Direction::Ascending => Direction::Descending,
        Direction::Descending => Direction::Ascending,
    }
}

/// Walks a list with pages of each size and both ways, from its end and back from each page; `expected` is ascending.
async fn check_walks<T, K, F>(expected: &[K], key: impl Fn(&T) -> K, get: impl Fn(PageQuery) -> F)
where
    K: PartialEq + std::fmt::Debug + Clone,
    F: Future<Output = Result<Page<T>, Error>>,
{
    for direction in WAYS {
        let mut ordered = expected.to_vec();
        if direction == Direction::Descending {
            ordered.reverse();
        }
        for limit in [1, 2, 3, 7, 100] {
            let size = usize::try_from(limit).unwrap();
            let (mut seen, mut cursor): (Vec<K>, _) = (Vec::new(), None);
            loop {
                let page = get(PageQuery { cursor, limit, direction }).await.unwrap();
                assert!(page.elements.len() <= size);
                assert_eq!(page.backwards.is_none(), page.elements.is_empty());
                let start = seen.len();
                seen.extend(page.elements.iter().map(&key));
                if let Some(backwards) = page.backwards {
                    let direction = other(direction);
                    let back = get(PageQuery { cursor: Some(backwards), limit, direction }).await.unwrap();
                    let back: Vec<K> = back.elements.iter().map(&key).collect();
                    let expected: Vec<K> = seen[..=start].iter().rev().take(size).cloned().collect();
                    assert_eq!(back, expected, "back from element {start}");
                }
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, ordered, "limit {limit} {direction:?}");
        }
    }
}

fn turn_of(turn: &TurnRecords) -> TurnId {
    turn.turn_id
}

fn sequence_of(item: &ItemRecord) -> u64 {
    item.sequence
}

pub(crate) async fn pages_of_turns_and_items(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let (tenant, id) = (tenant(), lease.thread_id);
    let empty = store.turns(&tenant, id, PageQuery::default()).await.unwrap();
    assert!(empty.elements.is_empty() && empty.next.is_none() && empty.backwards.is_none());

    let turns: Vec<TurnId> = (0..9).map(|_| TurnId::generate()).collect();
    for turn_id in &turns {
        store.append(&lease, turn(*turn_id), no_update()).await.unwrap();
    }
    // An entry that comes after its turn belongs to it all the same.
    store.append(&lease, vec![answer(turns[0], "late")], no_update()).await.unwrap();

    check_walks(&turns, turn_of, |page| store.turns(&tenant, id, page)).await;
    let all = store.turns(&tenant, id, PageQuery::default()).await.unwrap();
    let sequences =
        |turn: &TurnRecords| turn.records.iter().map(|record| record.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(&all.elements[0]), [1, 2, 4, 6, 7, 64]);
    assert_eq!(sequences(&all.elements[8]), [57, 58, 60, 62, 63]);

    let items: Vec<u64> = (0..9).flat_map(|turn| [turn * 7 + 2, turn * 7 + 4]).chain([64]).collect();
    check_walks(&items, sequence_of, |page| store.items(&tenant, id, None, page)).await;
    check_walks(&[2, 4, 64], sequence_of, |page| store.items(&tenant, id, Some(turns[0]), page)).await;
    check_walks(&[], sequence_of, |page| store.items(&tenant, id, Some(TurnId::generate()), page)).await;
    let of_turn = store.items(&tenant, id, Some(turns[1]), PageQuery::default()).await.unwrap();
    assert!(of_turn.elements.iter().all(|item| item.turn_id == turns[1]));
}

pub(crate) async fn pages_of_turns_end_early(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let (tenant, id) = (tenant(), lease.thread_id);
    let turns: Vec<TurnId> = (0..5).map(|_| TurnId::generate()).collect();
    for turn_id in &turns {
        let mut entries = vec![started(*turn_id)];
        entries.extend((0..700).map(|_| answer(*turn_id, "x")));
        store.append(&lease, entries, no_update()).await.unwrap();
    }
    let first = store.turns(&tenant, id, PageQuery::default()).await.unwrap();
    assert_eq!(first.elements.len(), 2);
    assert!(first.elements.iter().all(|turn| turn.records.len() == 701));
    for direction in WAYS {
        let mut ordered = turns.clone();
        if direction == Direction::Descending {
            ordered.reverse();
        }
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.turns(&tenant, id, PageQuery { cursor, limit: 0, direction }).await.unwrap();
            seen.extend(page.elements.iter().map(turn_of));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, ordered, "{direction:?}");
    }
}

pub(crate) async fn pages_during_appends(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let (tenant, id) = (tenant(), lease.thread_id);
    for direction in WAYS {
        let before = store.records(&tenant, id, 0, 0).await.unwrap().len();
        store.append(&lease, turn(TurnId::generate()), no_update()).await.unwrap();
        let (mut seen, mut cursor) = (Vec::new(), None);
        let mut appended = 0;
        loop {
            let page =
                store.items(&tenant, id, None, PageQuery { cursor, limit: 1, direction }).await.unwrap();
            seen.extend(page.elements.iter().map(sequence_of));
            if appended < 5 {
                store.append(&lease, vec![answer(TurnId::generate(), "more")], no_update()).await.unwrap();
                appended += 1;
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let items = store.items(&tenant, id, None, PageQuery::default()).await.unwrap();
        let mut expected: Vec<u64> = items.elements.iter().map(sequence_of).collect();
        if direction == Direction::Descending {
            // What came after the walk began lies behind it.
            let began = u64::try_from(before + 7).unwrap();
            expected.retain(|sequence| *sequence <= began);
            expected.reverse();
        } else {
            // The walk stops where it once saw the end, which grew before it was asked again.
            expected.truncate(seen.len());
            assert!(seen.len() > 2);
        }
        assert_eq!(seen, expected, "{direction:?}");
    }
}

async fn list(store: &dyn ThreadStore, query: ListQuery, page: PageQuery) -> Result<Page<Thread>, Error> {
    store.list(&tenant(), ListQuery { page, ..query }).await
}

pub(crate) async fn pages_of_threads(place: Place) {
    let store = place.open().await;
    let mut made = Vec::new();
    for n in 0..11_i64 {
        // Pairs share a time, so the id has to tell them apart.
        let new = Thread { created_at_ms: n / 2, updated_at_ms: 1_000 - n / 3, ..thread(&tenant()) };
        made.push((new.created_at_ms, new.updated_at_ms, new.id));
        store.create(new, &owner(), vec![]).await.unwrap();
    }
    let id_of = |thread: &Thread| thread.id;
    for sort in [SortKey::CreatedAt, SortKey::UpdatedAt] {
        made.sort_by_key(|(created, updated, id)| match sort {
            SortKey::CreatedAt => (*created, *id),
            SortKey::UpdatedAt => (*updated, *id),
        });
        let expected: Vec<ThreadId> = made.iter().map(|(.., id)| *id).collect();
        let query = || ListQuery { sort, ..ListQuery::default() };
        check_walks(&expected, id_of, |page| list(&*store, query(), page)).await;
    }
    // Growth moves a thread to the end of the one order and not of the other.
    let (.., grown) = made[0];
    let (lease, _) = store.acquire(&tenant(), grown, &owner()).await.unwrap();
    store.append(&lease, vec![ended(TurnId::generate())], no_update()).await.unwrap();
    let newest = PageQuery { direction: Direction::Descending, limit: 1, ..PageQuery::default() };
    let by_growth = ListQuery { sort: SortKey::UpdatedAt, ..ListQuery::default() };
    assert_eq!(list(&*store, by_growth, newest).await.unwrap().elements[0].id, grown);
}

pub(crate) async fn filters(place: Place) {
    let store = place.open().await;
    let mut ids = Vec::new();
    for n in 0..8_u8 {
        let mut new = thread(&tenant());
        new.created_at_ms = n.into();
        new.origin.source = ["cli", "vscode"][usize::from(n & 1)].to_owned();
        new.origin.provider = ["openai", "rehearsal"][usize::from(n >> 1 & 1)].to_owned();
        new.settings = settings(["/a", "/a/b"][usize::from(n >> 2 & 1)]);
        ids.push(new.id);
        store.create(new, &owner(), vec![]).await.unwrap();
    }
    let text = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let query = |sources: &[&str], providers: &[&str], cwds: &[&str]| ListQuery {
        sources: text(sources),
        providers: text(providers),
        cwds: text(cwds),
        ..ListQuery::default()
    };
    for (query, expected) in [
        (query(&[], &[], &[]), vec![0, 1, 2, 3, 4, 5, 6, 7]),
        (query(&["vscode"], &[], &[]), vec![1, 3, 5, 7]),
        (query(&["vscode", "cli", "exec"], &["openai"], &[]), vec![0, 1, 4, 5]),
        (query(&[], &[], &["/a"]), vec![0, 1, 2, 3]),
        (query(&["cli"], &["rehearsal"], &["/a/b"]), vec![6]),
        (query(&["CLI"], &[], &[]), vec![]),
        (query(&[], &["open%"], &[]), vec![]),
    ] {
        let expected: Vec<ThreadId> = expected.into_iter().map(|n: usize| ids[n]).collect();
        let id_of = |thread: &Thread| thread.id;
        check_walks(&expected, id_of, |page| list(&*store, query.clone(), page)).await;
    }
    // All but a few.
    let except = vec![ids[0], ids[5], ThreadId::generate()];
    let left: Vec<ThreadId> = [1, 2, 3, 4, 6, 7].map(|n| ids[n]).to_vec();
    let query = ListQuery { except, ..ListQuery::default() };
    check_walks(&left, |thread: &Thread| thread.id, |page| list(&*store, query.clone(), page)).await;
    // Archived threads are a list of their own.
    let archive = |archived| ThreadUpdate { archived: Some(archived), ..no_update() };
    store.update(&tenant(), ids[3], archive(true)).await.unwrap();
    let of = |archived| ListQuery { archived, ..ListQuery::default() };
    assert_eq!(store.list(&tenant(), of(true)).await.unwrap().elements[0].id, ids[3]);
    assert_eq!(store.list(&tenant(), of(false)).await.unwrap().elements.len(), 7);
    store.update(&tenant(), ids[3], archive(false)).await.unwrap();
    assert!(store.list(&tenant(), of(true)).await.unwrap().elements.is_empty());
}

pub(crate) async fn search(place: Place) {
    let store = place.open().await;
    for (name, preview) in [
        (Some("Straße nach Ägypten"), "100% sure"),
        (None, r"snake_case \ back"),
        (Some(""), "ΟΔΟΣ 'quoted'"),
    ] {
        let name = name.map(str::to_owned);
        let new = Thread { name, preview: preview.to_owned(), ..thread(&tenant()) };
        store.create(new, &owner(), vec![]).await.unwrap();
    }
    let found = async |text: &str| {
        let query = ListQuery { search: Some(text.to_owned()), ..ListQuery::default() };
        store.list(&tenant(), query).await.unwrap().elements.len()
    };
    for (text, expected) in [
        ("", 3),
        ("ÄGYPTEN", 1),
        ("ägypten", 1),
        ("100%", 1),
        ("1%0", 0),
        ("%", 1),
        ("snake_", 1),
        ("snake-case", 0),
        ("s_r", 0),
        (r"\", 1),
        (r"\\", 0),
        ("οδοσ", 1),
        ("'QUOTED'", 1),
        ("sure snake", 0),
    ] {
        assert_eq!(found(text).await, expected, "{text:?}");
    }
    // A rename is searched by, and the old name no more.
    let all = store.list(&tenant(), ListQuery::default()).await.unwrap();
    let named = all.elements.iter().find(|thread| thread.preview == "100% sure").unwrap();
    let rename = ThreadUpdate { name: Some("Other".to_owned()), ..no_update() };
    store.update(&tenant(), named.id, rename).await.unwrap();
    assert_eq!((found("other").await, found("ägypten").await, found("sure").await), (1, 0, 1));
}

pub(crate) async fn foreign_cursors(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let (tenant, id) = (tenant(), lease.thread_id);
    store.append(&lease, turn(TurnId::generate()), no_update()).await.unwrap();
    let turns = store.turns(&tenant, id, PageQuery::default()).await.unwrap().backwards.unwrap();
    let items = store.items(&tenant, id, None, PageQuery::default()).await.unwrap().backwards.unwrap();
    let created = store.list(&tenant, ListQuery::default()).await.unwrap().backwards.unwrap();
    let page = |cursor: &str| PageQuery { cursor: Some(cursor.to_owned()), ..PageQuery::default() };
    let broken =
        ["", "x", "turns", "turns.i", "turns.i.", "turns.q.1", "turns.i.-1", "items.x.1.5", "é", "' OR 1"];
    for cursor in broken.iter().copied().chain([created.as_str(), items.as_str()]) {
        let refused = store.turns(&tenant, id, page(cursor)).await;
        assert!(matches!(refused, Err(Error::BadCursor)), "{cursor}: {refused:?}");
    }
    for cursor in broken.iter().copied().chain([created.as_str(), turns.as_str()]) {
        let refused = store.items(&tenant, id, None, page(cursor)).await;
        assert!(matches!(refused, Err(Error::BadCursor)), "{cursor}: {refused:?}");
    }
    let list = ["created.i.5", "created.i.5.x", "created.i.x.00000000000000000000000000000000"];
    for cursor in broken.iter().copied().chain(list).chain([turns.as_str()]) {
        let refused = store.list(&tenant, ListQuery { page: page(cursor), ..ListQuery::default() }).await;
        assert!(matches!(refused, Err(Error::BadCursor)), "{cursor}: {refused:?}");
    }
    let sort = SortKey::UpdatedAt;
    let refused = store.list(&tenant, ListQuery { page: page(&created), sort, ..ListQuery::default() }).await;
    assert!(matches!(refused, Err(Error::BadCursor)), "{refused:?}");
    // Far beyond the end is a place like any other.
    let beyond = format!("items.i.{}", u64::MAX);
    assert!(store.items(&tenant, id, None, page(&beyond)).await.unwrap().elements.is_empty());
}
