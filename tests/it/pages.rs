//! HTML reports in a browser: what a person does with them, without a network and without a complaint of the browser.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::browser::Browser;
use crate::support::data::{dataset, run};
use crate::support::output::all_output;

const READY: &str = "document.documentElement?.dataset.ready === 'yes'";

/// The report of three nights of two models, one of them with segments, and the index of it.
fn pages(folder: &Path) -> [PathBuf; 2] {
    let month = |month: &str| dataset(&format!("nycflights13/flights-2013-{month}.parquet")).display().to_string();
    let model = |name: &str, baseline: &str, current: &str, more: &str| {
        format!("[[model]]\nname = \"{name}\"\nbaseline = \"{baseline}\"\ncurrent = \"{current}\"\n{more}")
    };
    let fleet = folder.join("fleet.toml");
    let text = model("delays", &month("01"), &month("07"), "importance = 3\nslice_by = [\"origin\"]\n")
        + &model("quiet </script>", &month("01"), &month("01"), "");
    fs::write(&fleet, text).unwrap();
    let fleet = fleet.display().to_string();
    for day in 1..=3 {
        let now = format!("2026-01-0{day}T02:00:00Z");
        let output = run(["sweep", &fleet, "--now", &now, "--format", "json", "--threads", "2"]);
        assert!(output.status.success(), "{}", all_output(&output));
    }
    let pages = folder.join("pages");
    let output = run(["report", &fleet, "--index", &pages.display().to_string()]);
    assert!(output.status.success(), "{}", all_output(&output));
    let page = glob::glob(&format!("{}/2026*.html", pages.display())).unwrap().next().unwrap().unwrap();
    [page, pages.join("index.html")]
}

fn quiet(browser: &Browser, pages: &[&Path]) {
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
    let allowed = |url: &String| pages.iter().any(|page| *url == format!("file://{}", page.display()));
    let outside: Vec<&String> = browser.requests.iter().filter(|url| !allowed(url)).collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn a_page_is_filtered_sorted_and_clicked_through() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [page, _] = pages(folder.path());
    browser.resize(1200, 900);
    browser.open(&page, READY);
    let rows = "[...document.querySelectorAll('#rows tr.row')].map((row) => row.textContent)";
    let names = |browser: &mut Browser| {
        browser.value("[...document.querySelectorAll('#rows tr.row button')].map((button) => button.textContent)")
    };
    assert!(browser.value(&format!("{rows}.length")).as_u64().unwrap() > 10);

    // Filter.
    let type_in = |text: &str| {
        format!(
            "document.getElementById('filter').value = '{text}'; document.getElementById('filter').dispatchEvent(new Event('input'))"
        )
    };
    browser.value(&type_in("dep_delay"));
    let found = names(&mut browser);
    let found = found.as_array().unwrap();
    assert!(found.len() > 2 && found.iter().all(|name| name == "dep_delay"), "{found:?}");
    browser.value(&type_in(""));
    browser.value("document.getElementById('states').value = 'drifted'; document.getElementById('states').dispatchEvent(new Event('change'))");
    assert_eq!(browser.value(&format!("{rows}.every((row) => row.includes('drifted'))")), true);
    browser.value("document.getElementById('states').value = 'all'; document.getElementById('states').dispatchEvent(new Event('change'))");

    // Sort by name, both ways.
    let sort = "document.querySelector('#rows th[data-key=feature] button').click()";
    browser.value(sort);
    let first = names(&mut browser)[0].clone();
    browser.value(sort);
    let last = names(&mut browser)[0].clone();
    assert!(first.as_str().unwrap() < last.as_str().unwrap(), "{first} {last}");

    // Click through: the distribution, what each bin adds, the history, other segments.
    browser.value(&type_in("month"));
    browser.value("document.querySelector('#rows tr.row button').click()");
    browser.until("document.getElementById('detail').open && document.querySelectorAll('#history canvas').length > 0");
    let text = browser.value("document.getElementById('detail').innerText");
    let text = text.as_str().unwrap();
    for words in
        ["Figures and thresholds", "adds to PSI", "over 3 sweeps", "in other segments", "= 1", "from 100.0 % to 0.0 %"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let heading = "document.querySelector('#detail .place').textContent";
    let before = browser.value(heading);
    browser.value("[...document.querySelectorAll('#detail li button.link')][0].click()");
    browser.until(&format!("{heading} !== {before}"));
    quiet(&browser, &[&page]);
}

#[test]
fn a_page_is_used_by_keyboard_alone() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [page, _] = pages(folder.path());
    browser.resize(1200, 900);
    browser.open(&page, READY);
    let focused = "document.activeElement.id || document.activeElement.textContent";
    // The heat map can be reached, and tells what is under its cursor.
    for _ in 0..100 {
        browser.press("Tab", 9);
        if browser.value(focused) == "heat" {
            break;
        }
    }
    assert_eq!(browser.value(focused), "heat");
    let told = "document.getElementById('heat-said').textContent";
    browser.press("ArrowRight", 39);
    browser.until(&format!("{told} !== ''"));
    let first = browser.value(told);
    browser.press("ArrowDown", 40);
    browser.until(&format!("{told} !== {first}"));
    browser.press("Enter", 13);
    browser.until("document.getElementById('detail').open");
    browser.press("Escape", 27);
    browser.until("!document.getElementById('detail').open");
    assert_eq!(browser.value(focused), "heat", "the focus comes back");
    // The table of features, too.
    browser.value("document.querySelector('#rows tr.row button').focus()");
    browser.press("ArrowDown", 40);
    assert_eq!(browser.value("document.activeElement.closest('tr').dataset.at"), "1");
    browser.press("Enter", 13);
    browser.until("document.getElementById('detail').open");
    quiet(&browser, &[&page]);
}

#[test]
fn a_page_is_printed_and_fits_a_phone_in_light_and_dark() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [page, index] = pages(folder.path());
    for (file, ready) in [(&page, READY), (&index, "document.readyState === 'complete'")] {
        browser.resize(390, 844);
        browser.open(file, ready);
        let width = browser.value("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(width <= 390, "{}: {width}", file.display());
        browser.resize(1200, 900);
        let mut backgrounds = Vec::new();
        for dark in [false, true] {
            browser.dark(dark);
            backgrounds.push(browser.value("getComputedStyle(document.body).backgroundColor"));
            save(&browser.screenshot(), file, if dark { "dark.png" } else { "light.png" });
        }
        assert_ne!(backgrounds[0], backgrounds[1]);
        let printed = browser.print();
        assert!(printed.starts_with(b"%PDF") && printed.len() > 5000, "{}", printed.len());
        save(&printed, file, "print.pdf");
    }
    // The link of the index opens the page.
    browser.value("document.querySelector('a').click()");
    browser.until(READY);
    quiet(&browser, &[&page, &index]);
}

/// Keeps a picture to be looked at, where a folder for them is named.
fn save(picture: &[u8], page: &Path, name: &str) {
    if let Ok(folder) = std::env::var("DRIFTSWEEP_TEST_PICTURES") {
        let of = if page.ends_with("index.html") { "index" } else { "page" };
        fs::write(Path::new(&folder).join(format!("{of}-{name}")), picture).unwrap();
    }
}
