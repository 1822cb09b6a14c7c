// Opens pages of `ane check --html` in headless Chromium and uses them, by mouse and by keyboard, in light and dark.
//
//   node tools/report_test.mjs [--shots FOLDER] PAGE.html...
//
// Needs playwright-core (npm) and Chromium (CHROMIUM, or /usr/bin/chromium). Prints a line for each check; ends with 1 where
// one fails.

import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

// Packages of npm are in the folder where this is started.
const { chromium } = createRequire(path.join(process.cwd(), 'package.json'))('playwright-core');

const LARGEST = 5_000_000;
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

let failed = 0;
function check(what, holds, seen = '') {
  console.log(`${holds ? 'ok  ' : 'FAIL'} ${what}${holds ? '' : `: ${seen}`}`);
  failed += holds ? 0 : 1;
}

async function use(browser, file, scheme, size, shots) {
  const name = `${path.basename(file, '.html')}, ${scheme}, ${size.width} wide`;
  const context = await browser.newContext({ colorScheme: scheme, viewport: size });
  const page = await context.newPage();
  const errors = [];
  page.on('console', message => { if (message.type() === 'error') errors.push(message.text()); });
  page.on('pageerror', error => errors.push(String(error)));
  page.on('request', request => { if (!request.url().startsWith('file:')) errors.push(`asks for ${request.url()}`); });
  await page.goto(pathToFileURL(path.resolve(file)).href);
  const report = JSON.parse(await page.locator('#report').textContent());
  const first = report.operations[0];
  const heading = () => page.locator('#details h2').textContent();
  if (first) {
    // Search by keyboard alone, and take the first hit.
    await page.keyboard.press('/');
    await page.keyboard.type(first.name);
    const matches = await page.evaluate(() => window.aneReport.matches());
    check(`${name}: search finds ${first.name}`, matches.includes(0), JSON.stringify(matches));
    await page.keyboard.press('Enter');
    const chosen = await page.evaluate(() => window.aneReport.selected());
    check(`${name}: Enter chooses the first hit`, chosen === matches[0], chosen);
    check(`${name}: its details are there`, await heading() === report.operations[chosen].name, await heading());
    await page.keyboard.press('Escape');
    check(`${name}: Escape ends the search`, (await page.evaluate(() => window.aneReport.matches())).length === 0);

    // A click on an operation that is to be seen beside the chosen one.
    await page.evaluate(() => window.aneReport.select(0));
    const canvas = page.locator('#graph');
    await canvas.scrollIntoViewIfNeeded();
    const { width, height } = await canvas.boundingBox();
    const inside = ({ x, y }) => x > 5 && y > 5 && x < width - 5 && y < height - 5;
    const places = await page.evaluate(count => Array.from({ length: count }, (_, place) => window.aneReport.where(place)), report.operations.length);
    const other = places.findIndex((position, place) => place > 0 && inside(position));
    if (other > 0) {
      await canvas.click({ position: places[other] });
      check(`${name}: a click chooses the operation`, await page.evaluate(() => window.aneReport.selected()) === other, other);
      check(`${name}: and shows it`, await heading() === report.operations[other].name, await heading());
    } else check(`${name}: a second operation is to be seen`, report.operations.length === 1);
    const last = report.operations.length - 1;
    await page.evaluate(place => window.aneReport.select(place), last);
    await canvas.focus();
    await page.keyboard.press('p');
    check(`${name}: P goes to the one before`, await page.evaluate(() => window.aneReport.selected()) === Math.max(last - 1, 0));

    // The table: sorted by a button, an operation chosen with Enter.
    await page.locator('#columns button').nth(5).press('Enter');
    const place = Number(await page.locator('#rows tr td').first().textContent());
    const most = Math.max(...report.operations.map(op => op.flops));
    check(`${name}: the table sorts by FLOPs`, report.operations[place].flops === most, place);
    await page.locator('#rows button').first().press('Enter');
    check(`${name}: Enter in the table chooses`, await page.evaluate(() => window.aneReport.selected()) === place);
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(`${name}: nothing is wider than the page`, wide <= 0, `${wide} pixels`);
  const unexplained = report.rules.filter(rule => !rule.title).length;
  check(`${name}: every rule has its title`, unexplained === 0);
  check(`${name}: no error`, errors.length === 0, errors.join('; '));
  if (shots) {
    await page.evaluate(() => { document.querySelectorAll('details').forEach((one, n) => { one.open = n === 0; }); window.scrollTo(0, 0); });
    await page.waitForTimeout(300);
    await page.screenshot({ path: path.join(shots, `${name.replaceAll(', ', '-').replaceAll(' ', '-')}.png`), fullPage: true });
  }
  await context.close();
}

const names = process.argv.slice(2);
const shots = names[0] === '--shots' ? names.splice(0, 2)[1] : null;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: FLAGS });
for (const file of names) {
  const { size } = fs.statSync(file);
  check(`${path.basename(file)}: under 5 MB`, size < LARGEST, size);
  await use(browser, file, 'light', { width: 1280, height: 900 }, shots);
  await use(browser, file, 'dark', { width: 1280, height: 900 }, shots);
  await use(browser, file, 'light', { width: 380, height: 800 }, shots);
}
await browser.close();
console.log(failed ? `${failed} failed` : 'all passed');
process.exit(failed ? 1 : 0);
