//! Every statement over devices.

use picket_model::device::DeviceState;
use picket_model::device_thumbprint::DeviceThumbprint;
use picket_sqlite::one_row;
use picket_state::devices::{
    ChallengeDigest, Device, DeviceId, DeviceUpdate, NewDevice, OsName, OsVersion, PendingEnrollment, Posture,
};
use picket_state::{ListFilter, PrincipalId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::statements::malformed;

type Result<T> = std::result::Result<T, rusqlite::Error>;

const COLUMNS: &str = "id, owner, issuer, subject, tenant, label, state, enrolled_us, changed_us, os, os_version, \
                       is_disk_encrypted, is_managed, failures, reported_us, reporter, \
                       (SELECT group_concat(hex(thumbprint)) FROM device_thumbprint WHERE device = device.id)";

pub(super) fn device(connection: &Connection, id: DeviceId) -> Result<Option<Device>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM device WHERE id = ?1"))?
        .query_row([id.as_bytes()], read_device)
        .optional()
}

pub(super) fn device_of(connection: &Connection, thumbprint: DeviceThumbprint) -> Result<Option<Device>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM device WHERE id = (SELECT device FROM device_thumbprint WHERE thumbprint = ?1)"
        ))?
        .query_row([thumbprint.to_bytes()], read_device)
        .optional()
}

pub(super) fn devices(
    connection: &Connection,
    filter: &ListFilter,
    after: Option<DeviceId>,
    count_max: u32,
) -> Result<Vec<Device>> {
    // Every id is greater than no bytes.
    let after = after.as_ref().map_or(&[][..], DeviceId::as_bytes);
    let order = "id > ?1 ORDER BY id LIMIT ?2";
    let list = |condition: &str, parameters: &[&dyn rusqlite::ToSql]| {
        connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM device WHERE {condition}{order}"))?
            .query_map(parameters, read_device)?
            .collect()
    };
    match filter {
        ListFilter::All => list("", params![after, count_max]),
        ListFilter::Principal(owner) => list("owner = ?3 AND ", params![after, count_max, owner.as_bytes()]),
        ListFilter::Tenant(tenant) => list("tenant = ?3 AND ", params![after, count_max, tenant]),
    }
}

pub(super) fn begin_enrollment(
    connection: &Connection,
    enrollment: &PendingEnrollment,
    now_us: i64,
    count_max: u32,
) -> Result<bool> {
    connection
        .prepare_cached("DELETE FROM enrollment WHERE ends_us <= ?1")?
        .execute([now_us])?;
    let inserted = connection
        .prepare_cached(
            "INSERT INTO enrollment (challenge, owner, issuer, subject, tenant, label, ends_us, caller)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE (SELECT count(*) FROM enrollment) < ?9",
        )?
        .execute(params![
            enrollment.challenge.as_bytes(),
            enrollment.owner.as_bytes(),
            enrollment.issuer,
            enrollment.subject,
            enrollment.tenant,
            enrollment.label,
            enrollment.ends_us,
            enrollment.caller,
            count_max,
        ])?;
    Ok(inserted > 0)
}

pub(super) fn enroll(connection: &Connection, new: &NewDevice) -> Result<DeviceUpdate> {
    let enrollment = connection
        .prepare_cached(
            "SELECT challenge, owner, issuer, subject, tenant, label, ends_us, caller
             FROM enrollment WHERE challenge = ?1 AND ends_us > ?2",
        )?
        .query_row(params![new.challenge.as_bytes(), new.now_us], read_enrollment)
        .optional()?;
    let Some(enrollment) = enrollment else {
        return Ok(DeviceUpdate::Missing);
    };
    if owner_of(connection, new.thumbprint)?.is_some() {
        return Ok(DeviceUpdate::Taken);
    }
    // No device is ever deleted, so the last row's number is how many there are, without a look at
    // each.
    let held: i64 = connection
        .prepare_cached("SELECT coalesce(max(rowid), 0) FROM device")?
        .query_row([], |row| row.get(0))?;
    if u64::try_from(held).unwrap_or(u64::MAX) >= new.devices_max {
        return Ok(DeviceUpdate::TooMany);
    }
    let device = Device::enrolled(enrollment, new);
    let answered = connection
        .prepare_cached("DELETE FROM enrollment WHERE challenge = ?1")?
        .execute([new.challenge.as_bytes()])?;
    one_row(answered)?;
    let written = connection
        .prepare_cached(
            "INSERT INTO device (id, owner, issuer, subject, tenant, label, state, enrolled_us, changed_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            device.id.as_bytes(),
            device.owner.as_bytes(),
            device.issuer,
            device.subject,
            device.tenant,
            device.label,
            device.state.as_str(),
            device.enrolled_us,
            device.changed_us,
        ])?;
    one_row(written)?;
    insert_thumbprint(connection, device.id, new.thumbprint)?;
    Ok(DeviceUpdate::Done(Box::new(device)))
}

pub(super) fn set_state(
    connection: &Connection,
    id: DeviceId,
    state: DeviceState,
    now_us: i64,
) -> Result<DeviceUpdate> {
    change(connection, id, |device| {
        let device = match device.check_state_change(state) {
            Ok(device) => device,
            Err(instead) => return Ok(instead),
        };
        let written = connection
            .prepare_cached("UPDATE device SET state = ?1, changed_us = ?2 WHERE id = ?3")?
            .execute(params![state.as_str(), now_us, id.as_bytes()])?;
        one_row(written)?;
        Ok(DeviceUpdate::Done(Box::new(Device {
            state,
            changed_us: now_us,
            ..device
        })))
    })
}

pub(super) fn report(connection: &Connection, id: DeviceId, posture: &Posture) -> Result<DeviceUpdate> {
    change(connection, id, |device| {
        let written = connection
            .prepare_cached(
                "UPDATE device SET os = ?1, os_version = ?2, is_disk_encrypted = ?3, is_managed = ?4, failures = ?5,
                     reported_us = ?6, reporter = ?7
                 WHERE id = ?8",
            )?
            .execute(params![
                posture.os.as_str(),
                posture.os_version.to_string(),
                posture.is_disk_encrypted,
                posture.is_managed,
                posture.failures,
                posture.reported_us,
                posture.reporter,
                id.as_bytes(),
            ])?;
        one_row(written)?;
        Ok(DeviceUpdate::Done(Box::new(Device {
            posture: Some(posture.clone()),
            ..device
        })))
    })
}

pub(super) fn add_thumbprint(
    connection: &Connection,
    id: DeviceId,
    thumbprint: DeviceThumbprint,
    now_us: i64,
) -> Result<DeviceUpdate> {
    change(connection, id, |device| {
        let owner = owner_of(connection, thumbprint)?;
        if let Err(instead) = device.check_thumbprint_addition(owner) {
            return Ok(instead);
        }
        insert_thumbprint(connection, id, thumbprint)?;
        touched(connection, id, now_us)
    })
}

pub(super) fn remove_thumbprint(
    connection: &Connection,
    id: DeviceId,
    thumbprint: DeviceThumbprint,
    now_us: i64,
) -> Result<DeviceUpdate> {
    change(connection, id, |device| {
        if let Err(instead) = device.check_thumbprint_removal(thumbprint) {
            return Ok(instead);
        }
        let removed = connection
            .prepare_cached("DELETE FROM device_thumbprint WHERE thumbprint = ?1")?
            .execute([thumbprint.to_bytes()])?;
        one_row(removed)?;
        touched(connection, id, now_us)
    })
}

fn change(
    connection: &Connection,
    id: DeviceId,
    work: impl FnOnce(Device) -> Result<DeviceUpdate>,
) -> Result<DeviceUpdate> {
    match device(connection, id)? {
        Some(device) => work(device),
        None => Ok(DeviceUpdate::Missing),
    }
}

fn touched(connection: &Connection, id: DeviceId, now_us: i64) -> Result<DeviceUpdate> {
    let written = connection
        .prepare_cached("UPDATE device SET changed_us = ?1 WHERE id = ?2")?
        .execute(params![now_us, id.as_bytes()])?;
    one_row(written)?;
    let device = device(connection, id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    Ok(DeviceUpdate::Done(Box::new(device)))
}

fn owner_of(connection: &Connection, thumbprint: DeviceThumbprint) -> Result<Option<DeviceId>> {
    connection
        .prepare_cached("SELECT device FROM device_thumbprint WHERE thumbprint = ?1")?
        .query_row([thumbprint.to_bytes()], |row| bytes(row, 0, DeviceId::from_slice))
        .optional()
}

fn insert_thumbprint(connection: &Connection, id: DeviceId, thumbprint: DeviceThumbprint) -> Result<()> {
    let written = connection
        .prepare_cached("INSERT INTO device_thumbprint (thumbprint, device) VALUES (?1, ?2)")?
        .execute(params![thumbprint.to_bytes(), id.as_bytes()])?;
    one_row(written)
}

fn read_device(row: &Row<'_>) -> Result<Device> {
    let state: String = row.get(6)?;
    Ok(Device {
        id: bytes(row, 0, DeviceId::from_slice)?,
        owner: bytes(row, 1, PrincipalId::from_slice)?,
        issuer: row.get(2)?,
        subject: row.get(3)?,
        tenant: row.get(4)?,
        label: row.get(5)?,
        state: DeviceState::from_name(&state).ok_or_else(|| malformed(6, "state"))?,
        enrolled_us: row.get(7)?,
        changed_us: row.get(8)?,
        posture: read_posture(row)?,
        thumbprints: read_thumbprints(row.get::<_, Option<String>>(16)?.as_deref())
            .ok_or_else(|| malformed(16, "thumbprints"))?,
    })
}

fn read_posture(row: &Row<'_>) -> Result<Option<Posture>> {
    let Some(os) = row.get::<_, Option<String>>(9)? else {
        return Ok(None);
    };
    let os_version: String = row.get(10)?;
    Ok(Some(Posture {
        os: OsName::new(&os).ok_or_else(|| malformed(9, "os"))?,
        os_version: OsVersion::new(&os_version).ok_or_else(|| malformed(10, "os_version"))?,
        is_disk_encrypted: row.get(11)?,
        is_managed: row.get(12)?,
        failures: row.get(13)?,
        reported_us: row.get(14)?,
        reporter: row.get(15)?,
    }))
}

/// In hexadecimal, with commas between them.
fn read_thumbprints(text: Option<&str>) -> Option<Vec<DeviceThumbprint>> {
    let texts = text.into_iter().flat_map(|text| text.split(','));
    let read = |text: &str| DeviceThumbprint::from_slice(&hex::decode(text).ok()?);
    let mut thumbprints = texts.map(read).collect::<Option<Vec<_>>>()?;
    thumbprints.sort_unstable();
    Some(thumbprints)
}

fn read_enrollment(row: &Row<'_>) -> Result<PendingEnrollment> {
    Ok(PendingEnrollment {
        challenge: bytes(row, 0, ChallengeDigest::from_slice)?,
        owner: bytes(row, 1, PrincipalId::from_slice)?,
        issuer: row.get(2)?,
        subject: row.get(3)?,
        tenant: row.get(4)?,
        label: row.get(5)?,
        ends_us: row.get(6)?,
        caller: row.get(7)?,
    })
}

fn bytes<T>(row: &Row<'_>, index: usize, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<T> {
    let bytes = row.get_ref(index)?.as_blob()?;
    read(bytes).ok_or_else(|| malformed(index, "a digest"))
}
