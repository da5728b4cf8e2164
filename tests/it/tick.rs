//! Ticks: what fires and what does not, killed between any two steps, twenty at once, under clocks that jump; on both
//! stores.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use driftsweep::metric::performance::PerformanceMetric;
use driftsweep::model::Options;
use driftsweep_extensions::trigger::labels::{LabelView, NewLabels, horizon};
use driftsweep_extensions::trigger::performance;
use driftsweep_fleet::{Fleet, Origin};
use driftsweep_ops::labels::LabelQuery;
use driftsweep_ops::store::{Firing, RetrainEvent, Store};
use jiff::{Timestamp, ToSpan};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::at;
use crate::support::data::run;
use crate::support::world::{World, loans, tick_here};

fn remembered(fleet: &Fleet, store: &str) -> (Vec<RetrainEvent>, Vec<Firing>) {
    let mut store = Store::open(store, &fleet.name).unwrap();
    (store.events().unwrap(), store.firings(None, Timestamp::MIN).unwrap())
}

#[test]
fn a_tick_killed_between_any_two_steps_loses_nothing_and_doubles_nothing() {
    let nights = ["2026-01-02T03:00:00Z", "2026-01-03T03:00:00Z", "2026-01-04T03:00:00Z"].map(at);
    let world = World::new(3, "[defaults.trigger]\nschedule = \"0 1 3 * *\"\n");
    for store in world.stores() {
        let fleet = |name: &str| Fleet { name: format!("{name}-{}", world.fleet().name), ..world.fleet() };
        let undisturbed = fleet("undisturbed");
        let mut steps = 0;
        for now in nights {
            tick_here(&undisturbed, &store, now, &mut |_| steps += 1).unwrap();
        }
        let (events, firings) = remembered(&undisturbed, &store);
        // All three models by the calendar on the 3rd, and by drift on the 4th: two nights of drift.
        assert_eq!(events.len(), 3, "{events:?}");
        assert_eq!(firings.len(), 6, "{firings:?}");
        let strip = |firings: Vec<Firing>| {
            firings.into_iter().map(|firing| Firing { event: None, ..firing }).collect::<Vec<_>>()
        };
        let wanted = strip(firings);

        let mut killed = 0;
        for kill_at in 0..steps {
            let fleet = fleet(&kill_at.to_string());
            let mut step = 0;
            for now in nights {
                let mut dies = |_: &str| {
                    step += 1;
                    if step == kill_at + 1 {
                        std::panic::resume_unwind(Box::new("killed"));
                    }
                };
                if catch_unwind(AssertUnwindSafe(|| tick_here(&fleet, &store, now, &mut dies).unwrap())).is_err() {
                    killed += 1;
                    tick_here(&fleet, &store, now, &mut |_| ()).unwrap();
                }
            }
            let (again, firings) = remembered(&fleet, &store);
            assert_eq!(strip(firings), wanted, "killed at step {kill_at}");
            assert_eq!(again.len(), events.len());
        }
        assert_eq!(killed, steps);
    }
}

#[test]
fn a_tick_killed_while_data_are_late_or_caught_up_with_ends_as_if_it_had_not_been() {
    let world = World::new(2, "[[notify]]\nname = \"lines\"\nfile = \"told.jsonl\"\n");
    let late = world.folder.path().join("current/2026-01-03/table-00001.parquet");
    let away = world.folder.path().join("away");
    // The second night of drift: one model's data come between the second and the third tick.
    let nights =
        ["2026-01-02T03:00:00Z", "2026-01-03T03:00:00Z", "2026-01-04T03:00:00Z", "2026-01-04T06:00:00Z"].map(at);
    for store in world.stores() {
        let run = |name: &str, kill_at: Option<usize>| {
            let fleet = Fleet { name: format!("{name}-{}", world.fleet().name), ..world.fleet() };
            let (mut step, mut killed) = (0, false);
            for (i, now) in nights.into_iter().enumerate() {
                match i {
                    2 => fs::rename(&late, &away).unwrap(),
                    3 => fs::rename(&away, &late).unwrap(),
                    _ => {}
                }
                let mut dies = |_: &str| {
                    step += 1;
                    if Some(step) == kill_at {
                        std::panic::resume_unwind(Box::new("killed"));
                    }
                };
                if catch_unwind(AssertUnwindSafe(|| tick_here(&fleet, &store, now, &mut dies).unwrap())).is_err() {
                    killed = true;
                    tick_here(&fleet, &store, now, &mut |_| ()).unwrap();
                }
            }
            assert_eq!(killed, kill_at.is_some());
            let mut store = Store::open(&store, &fleet.name).unwrap();
            assert_eq!(store.waiting().unwrap(), []);
            let (mut kinds, mut firings) = (Vec::new(), Vec::new());
            let all = store.audit("", |record| {
                kinds.extend((record.kind != "store.write").then_some(record.kind));
                Ok(())
            });
            all.unwrap();
            assert_eq!(store.verify_audit(&[]).unwrap().problems, Vec::<String>::new());
            for firing in store.firings(None, Timestamp::MIN).unwrap() {
                firings.push((firing.model, firing.due, firing.outcome));
            }
            (kinds, firings, step)
        };
        let (kinds, firings, steps) = run("undisturbed", None);
        let wanted = ["store.create", "event.open", "data.late", "event.open", "data.arrived"];
        assert_eq!(kinds, wanted);
        assert_eq!(firings.len(), 2, "{firings:?}");
        assert!(firings.iter().all(|(_, due, _)| *due == at("2026-01-04T02:00:00Z")), "{firings:?}");
        for kill_at in 1..=steps {
            let (again, fired, _) = run(&kill_at.to_string(), Some(kill_at));
            assert_eq!((&again, &fired), (&kinds, &firings), "killed at step {kill_at}");
        }
    }
}

#[test]
fn twenty_ticks_at_once_do_each_thing_once() {
    let world = World::new(4, "");
    for store in world.stores() {
        for now in ["2026-01-03T03:00:00Z", "2026-01-04T03:00:00Z"] {
            let outputs: Vec<Output> = std::thread::scope(|scope| {
                let ticks: Vec<_> = (0..20).map(|_| scope.spawn(|| world.tick(&store, now, &[]))).collect();
                ticks.into_iter().map(|tick| tick.join().unwrap()).collect()
            });
            let mut swept = 0;
            for output in outputs {
                match output.status.code() {
                    Some(0) => {
                        let ticked: Value = serde_json::from_slice(&output.stdout).unwrap();
                        swept += usize::from(ticked["sweep"].is_object());
                    }
                    Some(13) => {}
                    code => panic!("{code:?} {}", String::from_utf8_lossy(&output.stderr)),
                }
            }
            assert_eq!(swept, 1);
        }
        let (events, firings) = remembered(&world.fleet(), &store);
        assert_eq!((events.len(), firings.len()), (4, 4));
    }
}

#[test]
fn ticks_killed_at_random_end_as_if_they_had_not_been() {
    let world = World::new(12, "");
    for store in world.stores() {
        let (mut killed, mut seed) = (0, 7u64);
        for now in ["2026-01-03T03:00:00Z", "2026-01-04T03:00:00Z"] {
            for _ in 0..10 {
                let mut child = Command::new(env!("CARGO_BIN_EXE_driftsweep"))
                    .args(["tick", "--threads", "1", "--now", now])
                    .arg(world.fleet_file())
                    .arg("--state")
                    .arg(world.folder.path().join("state"))
                    .env("DRIFTSWEEP_STORE", &store)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                std::thread::sleep(Duration::from_micros(seed >> 50));
                child.kill().unwrap();
                killed += usize::from(!child.wait().unwrap().success());
            }
            for _ in 0..100 {
                let output = world.tick(&store, now, &[]);
                if output.status.code() == Some(0) {
                    break;
                }
                assert_eq!(output.status.code(), Some(13), "{}", String::from_utf8_lossy(&output.stderr));
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        assert!(killed > 3, "only {killed} of 20 were still running when they were killed");
        let (events, firings) = remembered(&world.fleet(), &store);
        assert_eq!((events.len(), firings.len()), (12, 12));
        let mut models: Vec<&str> = events.iter().map(|event| &*event.model).collect();
        models.sort_unstable();
        models.dedup();
        assert_eq!(models.len(), 12);
        fs::remove_dir_all(world.folder.path().join("state")).unwrap();
    }
}

#[test]
fn missed_nights_are_caught_up_with_once_and_a_clock_set_back_does_nothing() {
    let world = World::new(
        1,
        "time_zone = \"Europe/Berlin\"\n[defaults.trigger]\nschedule = \"30 2 * * *\"\noff = [\"drift\"]\ncooldown = \"0d\"\n",
    );
    let store = &world.stores()[0];
    let first = world.ticked(store, "2026-01-02T03:00:00Z");
    assert_eq!(first["sweep"]["as_of"], "2026-01-02T01:00:00Z");
    assert_eq!(first["firings"].as_array().unwrap().len(), 0, "a model that was just met has missed nothing");
    // The same minute again, and an hour before it.
    for now in ["2026-01-02T03:00:00Z", "2026-01-02T02:00:00Z", "2025-06-01T00:00:00Z"] {
        let again = world.ticked(store, now);
        assert!(again["sweep"].is_null() && again["firings"] == Value::Array(vec![]), "{again}");
    }
    // Two nights were missed.
    let late = world.ticked(store, "2026-01-05T00:30:00Z");
    assert_eq!(late["sweep"]["as_of"], "2026-01-04T01:00:00Z");
    assert_eq!(late["firings"].as_array().unwrap().len(), 1, "{late}");
    assert_eq!(late["firings"][0]["due"], "2026-01-04T01:30:00Z");
    assert_eq!(late["next_sweep"], "2026-01-05T01:00:00Z");
    assert!(world.ticked(store, "2026-01-05T00:30:00Z")["firings"] == Value::Array(vec![]));
    // The night on which 02:30 comes twice: once. That on which it does not come: once.
    let fleet = world.fleet();
    for (from, nights) in [("2026-10-23T12:00:00Z", 4), ("2026-03-27T12:00:00Z", 4)] {
        let zone = &fleet.models[0].zone;
        let schedule = fleet.models[0].triggers.schedule.cron.value.as_ref().unwrap();
        let (mut now, mut done, mut fired) = (at(from), at(from), 0);
        // Every quarter of an hour, as cron would.
        while now < at(from).checked_add((24 * nights).hours()).unwrap() {
            now = now.checked_add(15.minutes()).unwrap();
            if let Some(due) = schedule.latest(done, now, zone) {
                (done, fired) = (due, fired + 1);
            }
        }
        assert_eq!(fired, nights);
    }
}

#[test]
fn one_event_a_model_joined_muted_closed_and_cooled_down() {
    let world = World::new(1, "[defaults.trigger]\ncooldown = \"2d\"\ndrift.persistence = \"1 of 1\"\n");
    let file = world.fleet_file();
    let fleet = file.to_str().unwrap();
    let outcome = |ticked: &Value| ticked["firings"][0]["outcome"].as_str().map(str::to_owned);
    for store in &world.stores() {
        assert_eq!(outcome(&world.ticked(store, "2026-01-02T03:00:00Z")), None);
        let mute = [
            "mute",
            "model-00000",
            fleet,
            "--for",
            "1d",
            "--reason",
            "release freeze",
            "--by",
            "ana",
            "--now",
            "2026-01-02T12:00:00Z",
        ];
        assert!(world.command(store, &mute).status.success());
        let muted = world.ticked(store, "2026-01-03T03:00:00Z");
        assert_eq!(outcome(&muted).unwrap(), "muted");
        assert!(muted["firings"][0]["reason"].as_str().unwrap().contains("release freeze"));
        // The mute has ended.
        let opened = world.ticked(store, "2026-01-04T03:00:00Z");
        assert_eq!(outcome(&opened).unwrap(), "opened");
        let event = &opened["events"][0];
        assert_eq!((&event["specversion"], &event["subject"]), (&"1.0".into(), &"model-00000".into()));
        assert!(event["data"]["details"]["comparisons"][0]["columns"][0]["signals"].is_array());
        assert_eq!(outcome(&world.ticked(store, "2026-01-05T03:00:00Z")).unwrap(), "joined");
        let id = event["id"].as_str().unwrap();
        let listed = world.command(store, &["events", "list", fleet, "--format", "json"]);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(listed[0]["event"], *event);
        assert_eq!(listed[0]["triggers"].as_array().unwrap().len(), 2);

        let close = |now: &str| {
            let close = [
                "events",
                "close",
                &id[..8],
                fleet,
                "--outcome",
                "dismissed",
                "--by",
                "ana",
                "--note",
                "a sale",
                "--now",
                now,
            ];
            world.command(store, &close)
        };
        assert!(close("2026-01-05T12:00:00Z").status.success());
        assert_eq!(close("2026-01-05T13:00:00Z").status.code(), Some(2), "it is closed already");
        let text = world.command(store, &["explain", "model-00000", fleet]);
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        for word in [
            "drift: fires",
            "1 of 1 sweeps (fleet",
            "psi",
            "(built in)",
            "joined",
            "performance: not set: [model.labels]",
        ] {
            assert!(text.contains(word), "{word} is not in\n{text}");
        }
    }
}

#[test]
fn a_trained_model_starts_afresh() {
    let world = World::new(1, "[defaults.trigger]\ncooldown = \"0d\"\n");
    let (file, store) = (world.fleet_file(), &world.stores()[0]);
    let fired = |now: &str| !world.ticked(store, now)["firings"].as_array().unwrap().is_empty();
    assert_eq!(["2026-01-03T03:00:00Z", "2026-01-04T03:00:00Z"].map(fired), [false, true]);
    let (events, _) = remembered(&world.fleet(), store);
    let close =
        ["events", "close", &events[0].id, file.to_str().unwrap(), "--by", "ana", "--outcome", "trained", "--now"];
    let close: Vec<&str> = close.into_iter().chain(["2026-01-04T12:00:00Z"]).collect();
    assert!(world.command(store, &close).status.success());
    // One night over the limits is not two: those before the training do not count.
    assert!(!fired("2026-01-05T03:00:00Z"));
}

#[test]
fn car_loans_are_quiet_until_they_drift_and_predictions_are_judged_when_their_labels_have_come() {
    let folder = TempDir::new().unwrap();
    let fleet = loans(
        folder.path(),
        "delay = \"20d\"\n[model.trigger.performance]\nlevel = 0.93\nwithin = \"14d\"\n[model.trigger]\ncooldown = \"0d\"\n",
    );
    let fleet = Fleet::read(&fleet, &Options::new()).unwrap();
    let store = folder.path().join("store.sqlite").display().to_string();
    // Row 25,000 is of 03:00 on the 31st of March.
    let (mut fired, mut now) = (Vec::new(), at("2019-03-10T04:00:00Z"));
    while now < at("2019-05-12T04:00:00Z") {
        let ticked = tick_here(&fleet, &store, now, &mut |_| ()).unwrap();
        fired.extend(ticked.firings.into_iter().map(|firing| (firing.trigger, firing.due)));
        now = now.checked_add(24.hours()).unwrap();
    }
    let first = |trigger: &str| fired.iter().find(|(name, _)| name == trigger).map(|(_, due)| *due);
    let onset = at("2019-03-31T03:00:00Z");
    assert!(fired.iter().all(|(_, due)| *due > onset), "{fired:?}");
    assert!(first("drift").unwrap() <= onset.checked_add((7 * 24).hours()).unwrap(), "{fired:?}");
    // Its labels come after twenty days, and its window is of fourteen.
    let performance = first("performance").unwrap();
    assert!(performance > onset.checked_add((20 * 24).hours()).unwrap(), "{performance}");
    assert!(performance < onset.checked_add((36 * 24).hours()).unwrap(), "{performance}");
    assert_eq!(first("volume"), None);

    // Estimated when they were made, realised when their labels came: the same predictions.
    let quality = Store::open(&store, &fleet.name).unwrap().quality("loans", Timestamp::MIN).unwrap();
    let of = |kind: &str| quality.iter().filter(|entry| entry.kind == kind).collect::<Vec<_>>();
    let (estimated, realised) = (of("estimated"), of("realised"));
    let pairs: Vec<_> = realised
        .iter()
        .filter_map(|r| estimated.iter().find(|e| e.before == r.before).map(|e| (e.value, r.value)))
        .collect();
    assert!(pairs.len() > 40, "{}", pairs.len());
    for (estimated, realised) in &pairs {
        assert!((estimated - realised).abs() < 0.012, "{estimated} {realised}");
    }
    assert!(pairs[0].1 > 0.935 && pairs[pairs.len() - 1].1 < 0.925, "{pairs:?}");
}

#[test]
fn labels_that_have_not_come_are_not_known_and_never_trigger() {
    let folder = TempDir::new().unwrap();
    let policy = "label_time = \"came\"\ndelay = \"40d\"\n[model.trigger.performance]\nlevel = 0.99\n\
                  [model.trigger.volume]\nlabels = 1000\n[model.trigger]\noff = [\"drift\"]\ncooldown = \"0d\"\n";
    let fleet = Fleet::read(&loans(folder.path(), policy), &Options::new()).unwrap();
    let store = folder.path().join("store.sqlite").display().to_string();
    let tick = |now: &str| {
        tick_here(&fleet, &store, at(now), &mut |_| ()).unwrap();
        let body = Store::open(&store, &fleet.name).unwrap().last_verdict("loans", at(now)).unwrap().unwrap().body;
        serde_json::from_str::<Value>(&body).unwrap()
    };
    // Eight days after the first prediction there cannot be a label.
    let early = tick("2018-11-08T04:00:00Z");
    assert_eq!(early["performance"]["standing"], "no_labels", "{early}");
    assert!(early["performance"]["estimated"]["value"].as_f64().unwrap() > 0.9);
    // Later labels come in between ten and thirty days, which is learned.
    let later = tick("2019-02-01T04:00:00Z");
    let days = later["performance"]["maturity_seconds"].as_f64().unwrap() / 86_400.0;
    assert!((27.0..31.0).contains(&days), "{days}");
    assert_eq!(later["performance"]["standing"], "triggered");
    assert!(later["performance"]["matured"]["labelled"].as_f64().unwrap() > 1000.0);
    // 165 a day came in the last seven; it fired, so the count begins anew.
    let volume = |verdict: &Value| verdict["volume"]["labels"].as_u64().unwrap();
    assert!((1100..1200).contains(&volume(&later)), "{later}");
    let next = tick("2019-02-02T04:00:00Z");
    assert!((100..240).contains(&volume(&next)), "{}", volume(&next));
    let (_, firings) = remembered(&fleet, &store);
    let fired = |trigger: &str| firings.iter().filter(|firing| firing.trigger == trigger).count();
    assert_eq!((fired("volume"), fired("performance")), (1, 2), "{firings:?}");
    // Labels are compared, too, and those to come do not count as missing.
    let comparisons = later["drift"]["comparisons"].as_array().unwrap();
    let labels = comparisons.iter().find(|c| c["window"] == "labels").unwrap();
    assert_eq!(labels["columns"][0]["role"], "label", "{labels}");
}

#[test]
fn the_same_data_twice_is_one_observation() {
    // Two nights, swept twelve times each: drift on the second is over its limits once, not twelve times.
    let world = World::new(1, "");
    let text = fs::read_to_string(world.fleet_file()).unwrap();
    fs::write(world.fleet_file(), text.replace("0 2 * * *", "0 * * * *")).unwrap();
    let store = &world.stores()[0];
    let fired = |hour: i64| {
        let now = at("2026-01-03T00:30:00Z").checked_add(hour.hours()).unwrap();
        !world.ticked(store, &now.to_string())["firings"].as_array().unwrap().is_empty()
    };
    assert!((0..23).step_by(4).all(|hour| !fired(hour)));
    assert!(fired(24), "the next night is another observation");
}

#[test]
fn calibration_leaves_the_wanted_alarms_and_the_comments_of_the_fleet_file() {
    let world = World::new(4, "# Our fleet.\n");
    let (file, state) = (world.fleet_file(), world.folder.path().join("state"));
    let state = ["--state", state.to_str().unwrap()];
    let night = |day: u32| {
        let now = format!("2026-01-0{day}T03:00:00Z");
        let output = run(["sweep", file.to_str().unwrap(), "--now", &now, "--format", "json"].iter().chain(&state));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    // One quiet night, three with drift.
    (2..=5).for_each(|day| drop(night(day)));
    let calibrate = |more: &[&str]| {
        let args = ["calibrate", file.to_str().unwrap(), "--format", "json", "--now", "2026-01-02", "--rate", "0.1"];
        let output = run(args.iter().chain(&state).chain(more));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let found = calibrate(&["--write"]);
    let psi = found["limits"].as_array().unwrap().iter().find(|limit| limit["limit"] == "psi").unwrap();
    assert_eq!(psi["columns"], 24);
    let number = |key: &str| psi[key].as_f64().unwrap();
    // 1,500 rows a side: 9 / 750 on average, and three columns of ten thousand over the limit.
    assert!((psi["no_change"][0].as_f64().unwrap() - 8.34 / 750.0).abs() < 0.002, "{psi}");
    assert!((0.03..0.06).contains(&number("recommended")) && number("alarms") <= 0.034, "{psi}");
    assert!(number("past_alarms") > 20.0 && psi["past_alarms"] == psi["past_alarms_that_remain"], "{psi}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("# Our fleet.") && text.contains(&format!("psi = {}", number("recommended"))), "{text}");
    let thresholds = world.fleet().models[0].thresholds_of("f00000");
    assert_eq!(thresholds.psi, number("recommended"));
    // Comments and line ends stay.
    let kept = text.replace(&format!("psi = {}", number("recommended")), "# above\npsi = 0.2 # agreed with risk");
    assert_ne!(kept, text);
    fs::write(&file, kept.replace('\n', "\r\n")).unwrap();
    calibrate(&["--write", "--limits", "psi"]);
    let again = fs::read_to_string(&file).unwrap();
    let line = format!("# above\r\npsi = {} # agreed with risk\r\n", number("recommended"));
    assert!(again.contains(&line) && !again.replace("\r\n", "").contains('\n'), "{again}");
    // The same again, for it is drawn from the same numbers.
    assert_eq!(calibrate(&[])["limits"][0]["recommended"], found["limits"][0]["recommended"]);
    calibrate(&["--by", "model", "--write", "--limits", "psi"]);
    let models = world.fleet().models;
    assert!(models.iter().all(|model| model.threshold_origin("f00000", "psi") == Origin::Model));
}

#[test]
fn a_schedule_has_missed_nothing_before_it_was_set_and_is_put_off_while_muted() {
    let world = World::new(1, "");
    let (file, store) = (world.fleet_file(), &world.stores()[0]);
    // There is no data on most of these days, which does not keep the calendar from going on.
    let ticked = |now: &str| serde_json::from_slice::<Value>(&world.tick(store, now, &[]).stdout).unwrap();
    let fired = |now: &str| ticked(now)["firings"].as_array().unwrap().len();
    assert_eq!(fired("2026-01-02T03:00:00Z"), 0);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}[model.trigger]\nschedule = \"0 0 1 * *\"\noff = [\"drift\"]\n")).unwrap();
    // Added in June: the first of June is past.
    assert_eq!(fired("2026-06-15T00:00:00Z"), 0);
    let mute = [
        "mute",
        "model-00000",
        file.to_str().unwrap(),
        "--until",
        "2026-07-03",
        "--reason",
        "x",
        "--by",
        "ana",
        "--now",
        "2026-06-30",
    ];
    assert!(world.command(store, &mute).status.success());
    assert_eq!(["2026-07-01T01:00:00Z", "2026-07-02T01:00:00Z"].map(fired), [0, 0]);
    let late = ticked("2026-07-03T01:00:00Z");
    assert_eq!(late["firings"][0]["due"], "2026-07-01T00:00:00Z", "{late}");
    assert_eq!(fired("2026-07-04T01:00:00Z"), 0);
}

#[test]
fn a_deadline_delays_only_the_models_it_came_before() {
    let world = World::new(3, "[defaults.trigger]\ndrift.persistence = \"1 of 1\"\n");
    let store = &world.stores()[0];
    let late = world.tick(store, "2026-01-03T03:00:00Z", &["--deadline", "0s"]);
    assert_eq!(late.status.code(), Some(12), "{}", String::from_utf8_lossy(&late.stderr));
    let rest = world.ticked(store, "2026-01-03T03:10:00Z");
    assert_eq!((rest["firings"].as_array().unwrap().len(), &rest["sweep"]["complete"]), (3, &true.into()));
    let text = fs::read_to_string(world.fleet_file()).unwrap();
    fs::write(world.fleet_file(), text.replace(&format!("name = \"{}\"", world.fleet().name), "")).unwrap();
    let unnamed = world.tick(store, "2026-01-03T03:10:00Z", &[]);
    assert_eq!(unnamed.status.code(), Some(4), "fleets that share a store need names");
}

#[test]
fn labels_that_are_no_classes_or_never_positive_are_an_error_that_says_so() {
    let folder = TempDir::new().unwrap();
    for (policy, words) in [
        ("delay = \"20d\"\npositive = \"yes\"\n", "'0' and '1', never 'yes'"),
        ("delay = \"20d\"\nproxy = \"no_such\"\n", "no_such"),
    ] {
        let fleet = Fleet::read(&loans(folder.path(), policy), &Options::new()).unwrap();
        let labels = fleet.models[0].labels.as_ref().unwrap();
        let question = LabelQuery {
            metric: PerformanceMetric::Accuracy,
            zone: &fleet.zone,
            since: at("2019-01-01T00:00:00Z"),
            before: at("2019-02-01T00:00:00Z"),
            arm: None,
        };
        let joined = driftsweep_ops::labels::join(labels, question, &Options::new(), &mut |_| ());
        let error = joined.err().unwrap().to_string();
        assert!(error.contains(words) || error.contains("'1' and '0', never 'yes'"), "{error}");
    }
}

#[test]
fn labels_that_cannot_be_read_fail_their_model_only() {
    let world = World::new(2, "");
    let text = fs::read_to_string(world.fleet_file()).unwrap();
    let labels = "\n[model.labels]\npredictions = \"current/*/table-00001.parquet\"\nfrom = \"nowhere.parquet\"\nid = \"f00000\"\nlabel = \"y\"\nprediction = \"f00001\"\ntime = \"f00002\"\n";
    fs::write(world.fleet_file(), text + labels).unwrap();
    let store = &world.stores()[0];
    let output = world.tick(store, "2026-01-03T03:00:00Z", &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(11), "{said}");
    assert!(said.contains("model 'model-00001'") && said.contains("f00002"), "{said}");
    let ticked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ticked["sweep"]["complete"], true);
    let again = world.tick(store, "2026-01-03T04:00:00Z", &[]);
    assert_eq!(again.status.code(), Some(11), "a retry does not turn red into green");
    assert_eq!(serde_json::from_slice::<Value>(&again.stdout).unwrap()["sweep"], Value::Null);
}

#[test]
fn a_store_that_cannot_be_used_is_named_without_its_password() {
    let world = World::new(1, "");
    for (store, code) in [
        ("postgres://me:hunter2@127.0.0.1:1/fleet", 14),
        ("postgres://me:hunter2@127.0.0.1:port/fleet", 14),
        ("/proc/nowhere/store.sqlite", 14),
    ] {
        let output = world.tick(store, "2026-01-03T03:00:00Z", &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(!said.contains("hunter2") && said.contains("store"), "{said}");
    }
    let file = world.folder.path().join("not.sqlite");
    fs::write(&file, "this is no database, only a text of some length ".repeat(100)).unwrap();
    let output = world.tick(file.to_str().unwrap(), "2026-01-03T03:00:00Z", &[]);
    assert_eq!(output.status.code(), Some(14), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn mistakes_in_triggers_and_labels_are_named_with_their_line() {
    const DAY: &str =
        "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b/{day}\"\n[model.labels]\nlabel = \"y\"\n";
    const MODEL: &str = "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n";
    let labelled = |more: &str| format!("{MODEL}[model.labels]\nlabel = \"y\"\n{more}");
    for (text, words) in [
        (format!("sweep = \"0 0 30 2 *\"\n{MODEL}"), ":1: schedule '0 0 30 2 *': it never occurs"),
        (format!("{MODEL}[model.trigger]\nschedule = \"* * *\""), "minute, hour"),
        (format!("{MODEL}[model.trigger]\noff = [\"wind\"]"), "known: schedule, performance, drift, volume"),
        (format!("{MODEL}[model.trigger.drift]\nat_least = 1\nshare = 0.5"), "give one of"),
        (format!("{MODEL}[model.trigger.drift]\npersistence = \"3 of 2\""), "write \"2 of 3\""),
        (format!("{MODEL}[model.trigger.drift]\nshare = 1.5"), "between 0 and 1"),
        (format!("{MODEL}[model.trigger.performance]\nlevel = 0.9\nwarning = 0.8"), "it must come before"),
        (format!("{MODEL}[model.trigger]\ncooldown = \"-1d\""), "cooldown"),
        (
            format!("[defaults.trigger.volume]\nwithin = \"soon\"\n{MODEL}"),
            ":2: defaults.trigger.volume.within: it is no",
        ),
        (labelled(""), "`prediction`, its `score`"),
        (labelled("prediction = \"p\""), "`time` of the prediction"),
        (labelled("prediction = \"p\"\ntime = \"t\"\nfrom = \"c\""), "joins the two with `id`"),
        (format!("{MODEL}[model.feature.x]\nimportance = -1"), "importance -1"),
        (format!("{MODEL}[model.trigger.performance]\nlevel = 90"), "accuracy is between 0 and 1"),
        (format!("{MODEL}[model.trigger.performance]\nrows = 100"), "fewer than min_labels = 200"),
        (format!("{MODEL}[model.trigger.performance]\nwithin = \"0d\""), "looks at nothing"),
        (format!("{MODEL}[model.thresholds]\npsi = inf"), "psi = inf"),
        (format!("{DAY}prediction = \"p\"\ntime = \"t\""), "name the predictions of all days"),
        (labelled("prediction = \"p\"\ntime = \"t\"\n[model.trigger.performance]\nmetric = \"auc\""), "takes a score"),
        (
            labelled("score = \"p\"\ntime = \"t\"\n[model.trigger.performance]\nmetric = \"mae\"\nlevel = 3"),
            "takes a prediction",
        ),
    ] {
        let error = Fleet::parse(&text, Path::new("f.toml"), &Options::new()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}\n{text}");
    }
}

#[test]
fn estimates_without_labels_are_those_of_nannyml() {
    // nannyml 0.13.1: CBPE(problem_type="classification_binary", chunk_size=5000, …).fit(reference).estimate(production),
    // chunks 0, 5 and 8.
    let folder = TempDir::new().unwrap();
    for (metric, wanted) in [
        ("accuracy", [0.94179, 0.91071, 0.91439]),
        ("f1", [0.94303, 0.91175, 0.91376]),
        ("auc", [0.97074, 0.96109, 0.96253]),
    ] {
        let policy =
            format!("[model.trigger.performance]\nmetric = \"{metric}\"\nlevel = 0.9\nwithin = \"30d 6h 36m\"\n");
        let fleet = Fleet::read(&loans(folder.path(), &policy), &Options::new()).unwrap();
        let (model, labels) = (&fleet.models[0], fleet.models[0].labels.as_ref().unwrap());
        let calibration = driftsweep_ops::labels::calibrate(labels).unwrap().unwrap();
        for (end, wanted) in
            ["2018-11-30T00:36:00Z", "2019-04-30T09:36:00Z", "2019-07-30T05:24:00Z"].into_iter().zip(wanted)
        {
            let since = horizon(model.triggers.labels_within(), labels.delay, at(end));
            let question = LabelQuery {
                metric: PerformanceMetric::Accuracy,
                zone: &model.zone,
                since,
                before: at(end),
                arm: None,
            };
            let joined = driftsweep_ops::labels::join(labels, question, &model.options, &mut |_| ()).unwrap();
            let given = LabelView {
                predictions: &joined,
                delay: labels.delay,
                delay_declared: labels.delay_declared,
                arrivals: None,
                new: NewLabels::since(since),
                classes: joined.classes,
                calibration: Ok(&calibration),
                counts: joined.counts,
            };
            let found = performance::assess(&model.triggers.performance, given, None, at(end)).unwrap();
            let estimated = found.estimated.unwrap();
            assert_eq!(found.fresh.predictions, 5000);
            assert!((estimated.value - wanted).abs() < 6e-6, "{metric} {end}: {estimated:?}");
        }
    }
}
